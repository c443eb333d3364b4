"""Lines of JSONL to rows, and what tables share with them: byte order marks, blank lines, lines beyond the bound."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Any, BinaryIO

from tuneport.dataset.findings.findings import RowReport
from tuneport.dataset.read.source import ROW_BYTES, blocks
from tuneport.dataset.read.strict_json import BAD, parse

Read = tuple[Any, RowReport]
"""A row's value, or BAD with the reason in the report; or None for what is no row: a blank line, a note on the file."""


def jsonl(stream: BinaryIO) -> Iterator[Read]:
    """The rows of a JSONL file."""
    line = 0
    for block, too_long in blocks(stream):
        if too_long:
            line += 1
            yield BAD, line_too_large(line, too_long)
        for raw in split_lines(block):
            line += 1
            report = RowReport(line)
            yield from read_line(without_bom(raw, report) if line == 1 else raw, report)


def read_line(raw: bytes, report: RowReport) -> Iterator[Read]:
    """One line of JSONL."""
    if not raw or raw.isspace():
        report.add("blank-line", "The line is empty.")
        yield None, report
        return
    yield as_row(parse(raw, report), report), report


def as_row(value: Any, report: RowReport) -> Any:
    """A value where a row should be: null is none, and must not be taken for "no row"."""
    if value is None and not report.failed:
        report.add("not-an-object", "The row is null, not an object.")
    return BAD if value is None else value


def split_lines(block: bytes) -> list[bytes]:
    """The lines of a block, without their ends."""
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def line_too_large(line: int, size: int) -> RowReport:
    """The report of a row beyond the bound."""
    report = RowReport(line)
    report.add("row-too-large", f"The row has {size:,} bytes; {ROW_BYTES:,} are the most.")
    return report


def without_bom(raw: bytes, report: RowReport) -> bytes:
    """The first bytes without a byte order mark, which is noted, and so are line ends as on Windows."""
    if raw.partition(b"\n")[0].endswith(b"\r"):
        report.add("crlf", "The first line ends with CR LF.")
    if raw.startswith(codecs.BOM_UTF8):
        report.add("byte-order-mark", "The file starts with a byte order mark.")
    return raw.removeprefix(codecs.BOM_UTF8)
