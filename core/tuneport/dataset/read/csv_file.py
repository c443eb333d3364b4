"""CSV and TSV to rows, as spreadsheets and programs really write them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.csv_lines import CsvLines, Unreadable
from tuneport.dataset.read.header import Header, read_header
from tuneport.dataset.read.jsonl import Read
from tuneport.dataset.read.lines import ROW_BYTES
from tuneport.dataset.read.strict_json import BAD

_SUSPECT = 3
"""A cell with at least this many lines that look like rows gets a warning."""
_SWALLOWED = 10
"""A cell with at least this many is an error: a closing quote is missing."""
_ROW_LIKE = 0.9  # the share of lines that must look like rows: a few cells contain a separator


def read_csv(stream: BinaryIO, separator: str | None) -> Iterator[Read]:
    """The rows of a table whose first line names its columns. A row over several lines has the number of its first.

    Where a quote includes lines that it should not, the row's first line is refused and reading continues after it.
    """
    csv.field_size_limit(ROW_BYTES)
    lines = CsvLines(stream)
    header, named = lines.read_start()
    separator = named or separator or _guess_separator(header)
    names = re.split(re.escape(separator), header)
    spaced = len(names) > 1 and all(name.startswith(" ") for name in names[1:])
    if spaced:
        lines.note("column-names", "A space follows each separator in the first line. It is removed.")
    for report in lines.notes:
        yield None, report
    yield from _Table(lines, separator, spaced=spaced).rows()


def _guess_separator(header: str) -> str:
    """The separator that occurs most often outside the quotes of a line."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(",;\t|", key=lambda one: (bare.count(one), one == ","))


class _Table:
    """The rows of a table, one after another."""

    def __init__(self, lines: CsvLines, separator: str, *, spaced: bool) -> None:
        self._lines = lines
        self._separator = separator
        self._parse = partial(csv.reader, delimiter=separator, skipinitialspace=spaced, strict=True)
        self._fields = self._parse(lines)
        self._split_until = 0  # up to this line, rows may be parts of a row that a stray quote split

    def rows(self) -> Iterator[Read]:
        """All rows after the first line, which names the columns."""
        columns: Header | None = None
        while (read := self._next()) is not None:
            fields, report = read
            if columns is not None and fields is not BAD:
                row = columns.read_row(fields, report)
                if report.failed and self._rewind_if_split(report):
                    row = None
                yield BAD if report.failed else row, report
            elif fields is BAD:
                if columns is None:
                    yield BAD, _report_file(report, 1)
                    return
                yield BAD, report
            elif any(map(str.strip, fields)):
                columns = read_header(fields, report)
                if columns is None:
                    yield BAD, _report_file(report)
                    return
                if report.found:
                    yield None, report
            else:
                report.add("blank-line", "The line is empty.")
                yield None, report
            if columns is not None:
                yield from self._read_many(columns)

    def _read_many(self, columns: Header) -> Iterator[Read]:
        """The next rows, as long as each is one line: the fast path for most tables."""
        lines = self._lines
        while lines.number >= self._split_until and (texts := lines.next_lines()):
            try:
                found = list(self._parse(texts))
            except csv.Error:
                found = []
            first = lines.number + 1
            lines.advance(len(texts), read=len(found) == len(texts))
            if len(found) != len(texts):
                return
            for number, fields in enumerate(found, first):
                report = RowReport(number)
                row = columns.read_row(fields, report)
                yield BAD if report.failed else row, report

    def _next(self) -> tuple[Any, RowReport] | None:
        """The fields of the next row, or BAD with the reason, or None at the end."""
        lines = self._lines
        lines.record.clear()
        first = lines.number + 1
        report = RowReport(first)
        try:
            fields = next(self._fields)
        except StopIteration:
            return None
        except Unreadable as error:
            if lines.number > first:
                self._continue_after(first, error.code, f"{error} It would include", report)
            else:
                report.add(error.code, str(error))
            return BAD, report
        except csv.Error as error:
            self._explain(str(error), first, report)
            return BAD, report
        if lines.bad_bytes:
            report.add("not-utf8", lines.bad_bytes)
            lines.bad_bytes = ""
            return BAD, report
        if lines.number > first:
            return self._check_long_row(fields, first, report)
        if first <= self._split_until and lines.has_odd_quotes():
            report.add("bad-quoting", "A quote has no counterpart, after an earlier stray quote.")
            return BAD, report
        return fields, report

    def _explain(self, error: str, first: int, report: RowReport) -> None:
        last = self._lines.number
        if last == first or self._lines.one_at_a_time:
            report.add("bad-quoting", _reason(error, self._separator))
        elif "end of data" in error:
            self._continue_after(first, "bad-quoting", "A quote is not closed: it would include", report)
        else:
            self._split_until = last
            what = f"A quote is not closed, or {_reason(error, self._separator, last)} It would include"
            self._continue_after(first, "bad-quoting", what, report)

    def _continue_after(self, first: int, code: str, what: str, report: RowReport) -> None:
        """Refuse the line where the row starts, and rewind so that reading continues after it."""
        last = self._lines.number
        next_step = f"Line {first} is refused, and reading continues at line {first + 1}."
        report.add(code, f"{what} lines {first} to {last}. {next_step}")
        self._lines.rewind(first)

    def _check_long_row(self, fields: list[str], first: int, report: RowReport) -> tuple[Any, RowReport]:
        """A row over several lines. It is refused where a quote most likely includes other rows."""
        inside, alike = self._row_like(len(fields))
        last = self._lines.number
        if inside < _SUSPECT or alike < inside * _ROW_LIKE:
            return fields, report
        if inside >= _SWALLOWED:
            self._split_until = last
            self._continue_after(first, "swallowed-rows", "A quote may not be closed: one cell includes", report)
            return BAD, report
        report.add("rows-in-a-cell", f"One row includes lines {first} to {last}, and each looks like a row.")
        return fields, report

    def _row_like(self, width: int) -> tuple[int, int]:
        """The number of lines between the row's first and last, and how many of them look like rows."""
        if width < 2:  # without a separator every line looks like a row
            return 0, 0
        separator = self._separator.encode()
        inside = self._lines.after_first()[:-1]
        return len(inside), sum(line.count(separator) == width - 1 for line in inside)

    def _rewind_if_split(self, report: RowReport) -> bool:
        """Rewind to a ragged row's second line if its lines look like rows, and return whether they do."""
        first, last = report.line or 0, self._lines.number
        others = self._lines.after_first()
        separator = self._separator.encode()
        if last == first or sum(separator in line for line in others) * 2 < len(others):
            return False
        report.found.clear()
        self._split_until = last
        self._continue_after(first, "bad-quoting", "A quote is missing or out of place: one row includes", report)
        return True


def _report_file(report: RowReport, line: int = 0) -> RowReport:
    """The report of a first line that names no columns: it is about the file, and no row was refused."""
    if line and report.found[0].code != "not-utf8":
        report.found.clear()
        report.add("no-column-names", "The quotes of the first line do not match.")
    report.line = None
    return report


def _reason(error: str, separator: str, line: int | None = None) -> str:
    """An error of the csv module in plain words."""
    where = f" in line {line}" if line else ""
    if "expected after" in error:
        what = f"a closing quote is followed by something other than {separator!r}{where}."
    elif "new-line character" in error:
        what = f"an unquoted field contains a carriage return{where}."
    elif "field larger" in error:
        what = f"a field has more than {ROW_BYTES:,} bytes{where}: a closing quote may be missing."
    elif "end of data" in error:
        what = f"a quote is not closed{where}."
    else:
        what = f"{error}{where}."
    return what if line else f"{what[:1].upper()}{what[1:]}"
