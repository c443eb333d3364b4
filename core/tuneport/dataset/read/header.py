"""A table's first line to column names, and its other lines to rows: the same rules for CSV files and for sheets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tuneport.dataset.findings.findings import RowReport

_NAMED = 10  # columns in one message
_RULE = re.compile(r":?-{2,}:?|={2,}")  # a cell of the line that Markdown's tables and terminals draw
_TOTALS = frozenset(
    ("total", "totals", "grand total", "subtotal", "sum", "summe", "gesamt", "insgesamt", "totale", "totaal", "итого")
)


class Columns:
    """The columns of a table. A column without a name is not used."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = [name.strip() for name in names]
        self._width = len(names)
        self._all_named = all(self._names)
        self._longest = max(12, *map(len, self._names))  # the first cell of a line that may be no row is not longer
        self._least = max((place for place, name in enumerate(self._names, 1) if name), default=0)

    def row(self, fields: Sequence[Any], report: RowReport) -> dict[str, Any] | None:
        """The row's values by name; None for a row of empty fields, which is noted, and for a ragged one, an error.

        Fields that are missing or too many do no harm where their columns have no name and they are empty.
        """
        if len(fields) == self._width and self._all_named and (first := str(fields[0]).strip()):
            if len(first) <= self._longest and self._is_no_row(first, fields, report):
                return None
            return dict(zip(self._names, fields))  # noqa: B905 - both are as wide, and `strict` takes as long again
        if not (fields and str(fields[0]).strip()) and not any(str(field).strip() for field in fields):
            report.add("blank-line", "The line is empty." if len(fields) < 2 else "Each field of the line is empty.")
            return None
        first = next(text for field in fields if (text := str(field).strip()))
        if len(fields) >= self._least and self._is_no_row(first, fields, report):
            return None
        if len(fields) == self._width and self._all_named:
            return dict(zip(self._names, fields, strict=True))
        if len(fields) < self._least or any(fields[self._width :]):
            report.add("ragged-row", f"The row has {len(fields)} fields, the first line names {self._least}.")
            return None
        return {name: field for name, field in zip(self._names, fields, strict=False) if name}

    def _is_no_row(self, first: str, fields: Sequence[Any], report: RowReport) -> bool:
        """Whether a line is the names of the columns again, or a rule; a total gets a warning."""
        if self._width < 2:
            return False
        if first.rstrip(":").lower() in _TOTALS:
            report.add("total-line", f"The row starts with {first!r}: it may be a total.")
        elif first == next(filter(None, self._names), "") and [str(field).strip() for field in fields] == self._names:
            report.add("no-row", "The line names the columns once more.")
        elif _RULE.fullmatch(first) and all(_RULE.fullmatch(bare) for one in fields if (bare := str(one).strip())):
            report.add("no-row", "The line is drawn: it holds no values.")
        return any(one.code == "no-row" for one in report.found)


def read_header(names: Sequence[str], report: RowReport) -> Columns | None:
    """The columns that a first line names; None where it names none or one of them twice, which is then an error."""
    stripped = [name.strip() for name in names]
    if repeated := sorted(name for name, times in Counter(stripped).items() if name and times > 1):
        said = f"The first line names {_listed(repeated)} more than once."
        report.add("no-column-names", said, None, "Give each column a name of its own.")
        return None
    if not any(stripped):
        report.add("no-column-names", "The first line leaves every column without a name.")
        return None
    if blank := [str(place) for place, name in enumerate(stripped, 1) if not name]:
        said = f"Column {blank[0]} has" if len(blank) == 1 else f"{len(blank)} columns ({_places(blank)}) have"
        report.add("unnamed-column", f"{said} no name.")
    if spaced := [name for name, bare in zip(names, stripped, strict=True) if bare and name != bare]:
        report.add("column-names", f"Spaces around a name are left out: {_listed(spaced)}.")
    return Columns(names)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_NAMED])) + (", …" if len(names) > _NAMED else "")


def _places(places: Sequence[str]) -> str:
    return ", ".join(places[:_NAMED]) + (", …" if len(places) > _NAMED else "")
