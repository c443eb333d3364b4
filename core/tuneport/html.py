"""HTML by small functions, escaped unless it is known to be HTML: foreign text cannot become markup by an oversight."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

_VOID = frozenset({"meta", "link", "input", "wbr"})
_NUMBERS = frozenset({"Rows", "Base right", "Tuned right", "Happened", "Planned"})
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202d\u202e]")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "Html | str | int | Iterable[Child] | None"
Attribute: TypeAlias = "str | int | float | bool | None"


def tag(element: str, /, *children: Child, **attributes: Attribute) -> Html:
    """An element. In attribute names a trailing `_` falls and others become `-`; None and False leave one out.

    >>> tag("p", "1 < 2", tag("b", "!"), class_="note", hidden=True)
    '<p class="note" hidden>1 &lt; 2<b>!</b></p>'
    """
    head = f"<{element}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Html(head if element in _VOID else f"{head}{join(children)}</{element}>")


def join(children: Child) -> Html:
    """Children one behind the other; what is not Html is escaped."""
    if isinstance(children, Html):
        return children
    if children is None:
        return Html()
    if isinstance(children, str | int):
        return escape(str(children))
    return Html("".join(map(join, children)))


def table(heads: Sequence[str], rows: Iterable[Html], class_: str | None = None) -> Html:
    """A table that scrolls by itself where the page is narrow. Heads of columns of numbers are listed in `_NUMBERS`."""
    cells = [
        tag("th", head, scope="col", class_="number" if head in _NUMBERS else None) if head else tag("td")
        for head in heads
    ]
    whole = tag("table", tag("thead", tag("tr", cells)), tag("tbody", rows), class_=class_)
    return tag("div", whole, class_="scroll")


def breakable(text: str) -> Html:
    """A long name that may break behind its punctuation, and nowhere else unless it must."""
    return join([[part, tag("wbr")] if part[-1:] in "_-/.:" else part for part in re.split(r"(?<=[_\-/.:])", text)])


def prose(text: str) -> Html:
    """A message of ours, with what stands in `back quotes` as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return join(tag("code", part) if place % 2 else part for place, part in enumerate(parts))


def escape(text: str) -> Html:
    """Any text as HTML that shows it; control characters and overrides of its direction are shown as U+FFFD."""
    return Html(html.escape(_CONTROL.sub("\ufffd", text.replace("\r\n", "\n")), quote=True))


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{escape(text)}"'
