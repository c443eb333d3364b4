"""One row, once it is read, converted and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tuneport.dataset.check.one_row import check_example
from tuneport.dataset.example import Example, canonical
from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.strict_json import BAD
from tuneport.dataset.scan.plain_chat import Chat
from tuneport.dataset.shapes.convert import read_example
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.shapes.suggest import BY_ROW, is_by_column, suggest_columns


@dataclass(slots=True)
class Outcome:
    """The outcome of one row: `at` is its line, or 0 for a report without a row.

    An accepted row has an `example`, or for plain chat `plain`, and its canonical `line`.
    """

    at: int
    report: RowReport | None
    example: Example | None = None
    plain: Chat | None = None
    line: bytes = b""

    @property
    def is_accepted(self) -> bool:
        """Whether the row passes its own checks."""
        return self.plain is not None or self.example is not None

    def accepted_example(self) -> Example | None:
        """The example of an accepted row."""
        return self.plain.example() if self.plain is not None else self.example


def check_row(value: Any, report: RowReport, recipe: Recipe | None) -> Outcome:
    """Convert a row that a reader read, and check it by itself."""
    at = report.line or 0
    if value is None:  # a blank line, or a note on the file, possibly about an unused column
        used = (None, *(recipe.columns.values() if recipe else ()))
        report.found = [one for one in report.found if one.code != "read-as-text" or one.pointer in used]
        return Outcome(0, report)
    if value is BAD or report.failed:
        return Outcome(at, report)
    if recipe is None:
        report.add("unknown-shape", _unknown_shape(value), None, suggest_columns(value))
        return Outcome(at, report)
    example = read_example(recipe, value, report)
    if example is not None:
        check_example(example, report)
    if report.failed and is_by_column(value):
        report.found.clear()
        report.add("not-an-object", "The file has a table column by column, not rows.", None, BY_ROW)
    if report.failed or example is None:
        return Outcome(at, report)
    return Outcome(at, report, example, None, canonical(example))


def _unknown_shape(value: Any) -> str:
    if not isinstance(value, dict):
        return "The row is not an object with columns."
    return f"The columns are {', '.join(map(str, value)) or 'none'}, which is not a shape that tuneport knows."
