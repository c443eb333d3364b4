"""A table's first line to column names, and its other lines to rows: the same rules for CSV files and for sheets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tuneport.dataset.findings.row_report import RowReport

_SHOWN = 10  # columns in one message
_RULE = re.compile(r":?-{2,}:?|={2,}")  # a cell of the rule below the header of a Markdown or terminal table
_TOTALS = frozenset(
    ("total", "totals", "grand total", "subtotal", "sum", "summe", "gesamt", "insgesamt", "totale", "totaal", "итого")
)


class Header:
    """The columns of a table. A column without a name is not used."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = [name.strip() for name in names]
        self._width = len(names)
        self._all_named = all(self._names)
        self._longest = max(12, *map(len, self._names))  # a line with a longer first cell is a row
        self._least = max((place for place, name in enumerate(self._names, 1) if name), default=0)

    def read_row(self, fields: Sequence[Any], report: RowReport) -> dict[str, Any] | None:
        """The row's values by name; None for a line that is not a row, which is noted, and for a ragged row, an error.

        Missing or extra fields are accepted if they are empty and their columns have no name.
        """
        if len(fields) == self._width and self._all_named and (first := str(fields[0]).strip()):
            if len(first) <= self._longest and self._is_no_row(first, fields, report):
                return None
            return dict(zip(self._names, fields))  # noqa: B905 - same lengths, and `strict` takes twice as long
        if not (fields and str(fields[0]).strip()) and not any(str(field).strip() for field in fields):
            report.add("blank-line", "The line is empty." if len(fields) < 2 else "All fields of the line are empty.")
            return None
        first = next(text for field in fields if (text := str(field).strip()))
        if len(fields) >= self._least and self._is_no_row(first, fields, report):
            return None
        if len(fields) == self._width and self._all_named:
            return dict(zip(self._names, fields, strict=True))
        if len(fields) < self._least or any(fields[self._width :]):
            report.add("ragged-row", f"The row has {len(fields)} fields, but the first line has {self._least} names.")
            return None
        return {name: field for name, field in zip(self._names, fields, strict=False) if name}

    def _is_no_row(self, first: str, fields: Sequence[Any], report: RowReport) -> bool:
        """Whether a line repeats the column names or is a rule. A total gets a warning."""
        if self._width < 2:
            return False
        if first.rstrip(":").lower() in _TOTALS:
            report.add("total-line", f"The row starts with {first!r}, so it may be a total.")
        elif first == next(filter(None, self._names), "") and [str(field).strip() for field in fields] == self._names:
            report.add("no-row", "The line repeats the column names.")
        elif _RULE.fullmatch(first) and all(_RULE.fullmatch(bare) for one in fields if (bare := str(one).strip())):
            report.add("no-row", "The line is a rule and has no values.")
        return any(one.code == "no-row" for one in report.found)


def read_header(names: Sequence[str], report: RowReport) -> Header | None:
    """The columns that a first line names; None, with an error, where it has no names or one of them twice."""
    stripped = [name.strip() for name in names]
    if repeated := sorted(name for name, times in Counter(stripped).items() if name and times > 1):
        message = f"The first line names {_list(list(map(repr, repeated)))} more than once."
        report.add("no-column-names", message, None, "Give each column a different name.")
        return None
    if not any(stripped):
        report.add("no-column-names", "The first line has no column names.")
        return None
    if blank := [str(place) for place, name in enumerate(stripped, 1) if not name]:
        columns = f"Column {blank[0]} has" if len(blank) == 1 else f"{len(blank)} columns ({_list(blank)}) have"
        report.add("unnamed-column", f"{columns} no name.")
    if spaced := [repr(name) for name, bare in zip(names, stripped, strict=True) if bare and name != bare]:
        report.add("column-names", f"Spaces around a name are removed: {_list(spaced)}.")
    return Header(names)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
