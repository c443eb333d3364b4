"""What a notebook shows of an object: a title, a few facts and tables, through the builder that escapes all text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tuneport.html import Child, Html, tag

_MOST_ROWS = 50
_CELL = "text-align: left; vertical-align: top; padding: 2px 12px 2px 0"


def card(title: str, facts: Iterable[tuple[str, object]] = (), *tables: Html) -> str:
    """The HTML of an object: its title, one line for each fact that is not empty, then its tables."""
    rows = [
        tag("tr", tag("th", name, style=_CELL), tag("td", str(value), style=_CELL))
        for name, value in facts
        if value not in (None, "")
    ]
    return tag("div", tag("b", title), tag("table", tag("tbody", rows)) if rows else None, *tables, class_="tuneport")


def grid(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Html:
    """A table of text; of many rows the first, and how many more there are."""
    more: Child = None
    if len(rows) > _MOST_ROWS:
        more = tag("tr", tag("td", f"and {len(rows) - _MOST_ROWS:,} more", colspan=len(heads), style=_CELL))
    shown = [tag("tr", [tag("td", str(cell), style=_CELL) for cell in row]) for row in rows[:_MOST_ROWS]]
    head = tag("tr", [tag("th", one, style=_CELL) for one in heads])
    return tag("table", tag("thead", head), tag("tbody", shown, more))
