"""A table of separated values to rows."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from tuneport.dataset.findings import RowReport
from tuneport.dataset.lines import Read, split_lines, without_bom
from tuneport.dataset.source import ROW_BYTES, blocks
from tuneport.dataset.strictjson import BAD

_NAMED = 10  # columns in one message


def rows(stream: BinaryIO, separator: str | None) -> Iterator[Read]:
    """A table whose first line names its columns. Lines may stand inside quotes; a row has the line where it starts."""
    csv.field_size_limit(ROW_BYTES)
    lines = _Lines(stream)
    header = lines.first()
    for report in lines.notes:
        yield None, report
    if separator is None:
        separator = max(",;\t|", key=lambda one: (header.count(one), one == ","))
    table = csv.reader(lines, delimiter=separator, strict=True)
    names: list[str] | None = None
    while True:
        report = RowReport(lines.number + 1)
        lines.row_bytes = 0
        try:
            row = next(table)
        except StopIteration:
            return
        except (csv.Error, _Unreadable) as error:
            yield BAD, _csv_error(error, report)
            if names is None:
                return
            continue
        if not row:
            report.add("blank-line", "The line is empty.")
            yield None, report
        elif names is None:
            names = row
            if problem := _header_problem(names):
                report.add("no-column-names", problem)
                yield BAD, report
                return
        elif len(row) != len(names):
            report.add("ragged-row", f"The row has {len(row)} fields, the first line names {len(names)}.")
            yield BAD, report
        else:
            yield dict(zip(names, row, strict=True)), report


def _header_problem(names: list[str]) -> str | None:
    if repeated := sorted(name for name, times in Counter(names).items() if times > 1):
        more = ", …" if len(repeated) > _NAMED else ""
        return f"The first line names {', '.join(map(repr, repeated[:_NAMED]))}{more} more than once."
    return None if all(name.strip() for name in names) else "The first line leaves a column without a name."


def _csv_error(error: Exception, report: RowReport) -> RowReport:
    if isinstance(error, _Unreadable):
        report.line = error.line
        report.add(error.code, str(error))
    elif "field larger" in str(error):
        report.add("bad-quoting", f"A field has more than {ROW_BYTES:,} bytes: a closing quote may be missing.")
    else:
        report.add("bad-quoting", f"{str(error)[:1].upper()}{str(error)[1:]}.")
    return report


class _Unreadable(Exception):  # noqa: N818 - passes through csv.reader, to be caught right behind it
    def __init__(self, code: str, message: str, line: int) -> None:
        super().__init__(message)
        self.code = code
        self.line = line


class _Lines:
    """The lines of a stream as text, for csv.reader; `number` is that of the last one."""

    def __init__(self, stream: BinaryIO) -> None:
        self._blocks = blocks(stream)
        self._waiting: list[bytes] = []
        self._too_long = 0
        self.number = 0
        self.row_bytes = 0
        """What the row has so far, whose fields may go over many lines; set back by who reads rows."""
        self.notes: list[RowReport] = []

    def first(self) -> str:
        """The first line, which stays to be read."""
        self._fill()
        if not self._waiting:
            return ""
        report = RowReport(1)
        self._waiting[-1] = without_bom(self._waiting[-1], report)
        if report.found:
            self.notes.append(report)
        return self._waiting[-1].decode("utf-8", "replace")

    def _fill(self) -> None:
        block, self._too_long = next(self._blocks, (b"", 0))
        self._waiting = [line + b"\n" for line in split_lines(block)][::-1]

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if not self._waiting and not self._too_long:
            self._fill()
        if self._too_long:
            size, self._too_long = self._too_long, 0
            self.number += 1
            raise _Unreadable("row-too-large", f"The row has {size:,} bytes; {ROW_BYTES:,} are the most.", self.number)
        if not self._waiting:
            raise StopIteration
        self.number += 1
        line = self._waiting.pop()
        self.row_bytes += len(line)
        if self.row_bytes > ROW_BYTES:
            message = f"The row has more than {ROW_BYTES:,} bytes: a closing quote may be missing."
            raise _Unreadable("row-too-large", message, self.number)
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            message = f"Byte {error.start + 1} of the line is 0x{line[error.start]:02x}, which is not UTF-8 there."
            raise _Unreadable("not-utf8", message, self.number) from error
