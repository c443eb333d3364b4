"""A table that scrolls by itself where the page is too narrow for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tuneport.html import Html, table, tag

_NUMBERS = frozenset({"Rows", "Base right", "Tuned right", "Happened", "Planned"})


def wide_table(heads: Sequence[str], rows: Iterable[Html], class_: str) -> Html:
    """The table, in an element that scrolls. Columns of numbers are known by their heads."""
    return tag("div", table(heads, rows, numbers=_NUMBERS, class_=class_), class_="scroll")
