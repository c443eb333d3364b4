"""HTML in which every text is escaped, unless these functions made it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_STEERING = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # would change the direction of the text around them


class Html(str):
    """Text that is already HTML."""

    __slots__ = ()


def text(value: object) -> Html:
    """Escape a text; return HTML unchanged."""
    if isinstance(value, Html):
        return value
    return _escaped(value)


def without_direction(value: object) -> str:
    """Replace characters that would change the direction of the text around them."""
    return _STEERING.sub("\ufffd", str(value))


def _escaped(value: object) -> Html:
    return Html(html.escape(without_direction(value)))


def tag(name: str, /, *inside: object, **attributes: object) -> Html:
    """Return an element. `class_` becomes `class`, `data_x` becomes `data-x`; True is an attribute without a value,
    None and False are left out.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_escaped(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in ("input", "link", "meta"):
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(inside)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Return parts one after another."""
    return Html("".join(text(part) for part in parts))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """Return a table. On a narrow screen each row becomes a list of its cells, with the names of their columns."""
    titles = tag("tr", *(tag("th", one, scope="col") for one in head))
    lines = [
        tag("tr", *(tag("td", cell, data_name=name or None) for name, cell in zip(head, row, strict=True)))
        for row in rows
    ]
    return tag("table", tag("thead", titles), tag("tbody", *lines))


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Return a list of names and values."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs))
