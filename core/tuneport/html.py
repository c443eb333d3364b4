"""An HTML builder made of small functions. It escapes all text that is not `Html`, so that text from outside cannot
become markup.

Plugins get it as `from tuneport.plugin import html`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

__all__ = ["Html", "breakable", "card", "escape", "grid", "join", "prose", "table", "tag"]

_VOID = frozenset({"meta", "link", "input", "wbr"})
# Control characters, lone surrogates, noncharacters, and characters that reorder the text around them.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_MOST_ROWS = 50
_CELL = "text-align: left; vertical-align: top; padding: 2px 12px 2px 0"


class Html(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


Child: TypeAlias = "Html | str | int | float | Iterable[Child] | None"
"""What an element can contain: HTML, text, a number, nothing, or several of these."""

Attribute: TypeAlias = "str | int | float | bool | None"


def tag(element: str, /, *children: Child, **attributes: Attribute) -> Html:
    """An element. In attribute names, a trailing `_` is dropped and other underscores become `-`. True makes an
    attribute without a value; None and False leave it out.

    >>> tag("p", "1 < 2", tag("b", "!"), class_="note", hidden=True)
    '<p class="note" hidden>1 &lt; 2<b>!</b></p>'
    """
    head = f"<{element}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Html(head if element in _VOID else f"{head}{join(children)}</{element}>")


def join(children: Child) -> Html:
    """Children in order, as one piece of HTML. Text is escaped.

    >>> join(["a < b", tag("b", "!")])
    'a &lt; b<b>!</b>'
    """
    if isinstance(children, Html):
        return children
    if children is None:
        return Html()
    if isinstance(children, str | int | float):
        return escape(str(children))
    return Html("".join(map(join, children)))


def table(
    heads: Sequence[str],
    rows: Iterable[Html | Sequence[Child]],
    *,
    numbers: Collection[str] = (),
    **attributes: Attribute,
) -> Html:
    """A table. A row is a sequence of cells, or a complete `tr` element. Columns whose heads are in `numbers` get the
    class `number`. Each cell carries its head as `data-name`, so that a style sheet can show narrow tables as lists.

    >>> table(["name", "rows"], [["train", 12]], numbers=["rows"])[-99:]
    '<tr><td data-name="name">train</td><td class="number" data-name="rows">12</td></tr></tbody></table>'
    """
    kinds = ["number" if head in numbers else None for head in heads]
    titles = [
        tag("th", head, scope="col", class_=kind) if head else tag("td")
        for head, kind in zip(heads, kinds, strict=True)
    ]
    lines = [
        row
        if isinstance(row, Html)
        else tag(
            "tr",
            [
                tag("td", cell, class_=kind, data_name=head or None)
                for cell, kind, head in zip(row, kinds, heads, strict=True)
            ],
        )
        for row in rows
    ]
    return tag("table", tag("thead", tag("tr", titles)), tag("tbody", lines), **attributes)


def card(title: str, facts: Iterable[tuple[str, object]] = (), *tables: Html) -> str:
    """The HTML that a notebook shows for an object: its title, a line for each fact that is not empty, its tables."""
    rows = [
        tag("tr", tag("th", name, style=_CELL), tag("td", str(value), style=_CELL))
        for name, value in facts
        if value not in (None, "")
    ]
    return tag("div", tag("b", title), tag("table", tag("tbody", rows)) if rows else None, *tables, class_="tuneport")


def grid(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Html:
    """A table of text for a card. It shows the first 50 rows, and says how many more there are."""
    more: Child = None
    if len(rows) > _MOST_ROWS:
        more = tag("tr", tag("td", f"and {len(rows) - _MOST_ROWS:,} more", colspan=len(heads), style=_CELL))
    lines = [tag("tr", [tag("td", str(cell), style=_CELL) for cell in row]) for row in rows[:_MOST_ROWS]]
    head = tag("tr", [tag("th", one, style=_CELL) for one in heads])
    return tag("table", tag("thead", head), tag("tbody", lines, more))


def breakable(text: str) -> Html:
    """A long name that may break after its punctuation."""
    return join([[part, tag("wbr")] if part[-1:] in "_-/.:" else part for part in re.split(r"(?<=[_\-/.:])", text)])


def prose(text: str) -> Html:
    """A message, with text in `backquotes` as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return join(tag("code", part) if place % 2 else part for place, part in enumerate(parts))


def escape(text: str) -> Html:
    """Any text as HTML that shows it. Control characters, and those that reorder text, become U+FFFD."""
    return Html(html.escape(_UNSAFE.sub("\ufffd", text.replace("\r\n", "\n")), quote=True))


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{escape(text)}"'
