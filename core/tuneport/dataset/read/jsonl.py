"""JSON Lines to rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.lines import read_blocks, report_too_large, split_lines, strip_bom
from tuneport.dataset.read.strict_json import BAD, parse

Read = tuple[Any, RowReport]
"""A row's value, or BAD with the reason in the report, or None for a line that is not a row or a note on the file."""


def read_jsonl(stream: BinaryIO) -> Iterator[Read]:
    """The rows of a JSONL file."""
    line = 0
    for block, too_large in read_blocks(stream):
        if too_large:
            line += 1
            yield BAD, report_too_large(line, too_large)
        for raw in split_lines(block):
            line += 1
            report = RowReport(line)
            yield from read_line(strip_bom(raw, report) if line == 1 else raw, report)


def read_line(raw: bytes, report: RowReport) -> Iterator[Read]:
    """One line of JSONL."""
    if not raw or raw.isspace():
        report.add("blank-line", "The line is empty.")
        yield None, report
        return
    yield refuse_null(parse(raw, report), report), report


def refuse_null(value: Any, report: RowReport) -> Any:
    """The value of a row. JSON's null is an error there: None means that there is no row."""
    if value is None and not report.failed:
        report.add("not-an-object", "The row is null, not an object.")
    return BAD if value is None else value
