"""A table's first line to column names, and its other lines to rows: the same rules for CSV files and for sheets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tuneport.dataset.findings import RowReport

_NAMED = 10  # columns in one message


class Columns:
    """The columns of a table. A column without a name is not used."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = [name.strip() for name in names]
        self._width = len(names)
        self._all_named = all(self._names)
        self._least = max((place for place, name in enumerate(self._names, 1) if name), default=0)

    def row(self, fields: Sequence[Any], report: RowReport) -> dict[str, Any] | None:
        """The row's values by name; None for a row of empty fields, which is noted, and for a ragged one, an error.

        Fields that are missing or too many do no harm where their columns have no name and they are empty.
        """
        if len(fields) == self._width and self._all_named and str(fields[0]).strip():
            return dict(zip(self._names, fields))  # noqa: B905 - both are as wide, and `strict` takes as long again
        if not (fields and str(fields[0]).strip()) and not any(str(field).strip() for field in fields):
            report.add("blank-line", "The line is empty." if len(fields) < 2 else "Each field of the line is empty.")
            return None
        if len(fields) == self._width and self._all_named:
            return dict(zip(self._names, fields, strict=True))
        if len(fields) < self._least or any(fields[self._width :]):
            report.add("ragged-row", f"The row has {len(fields)} fields, the first line names {self._least}.")
            return None
        return {name: field for name, field in zip(self._names, fields, strict=False) if name}


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
