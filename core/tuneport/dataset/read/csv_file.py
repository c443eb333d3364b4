"""A table of separated values to rows, as spreadsheets and programs really write it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

from tuneport.dataset.findings.findings import RowReport
from tuneport.dataset.read.csv_lines import Lines, Unreadable
from tuneport.dataset.read.header import Columns, read_header
from tuneport.dataset.read.lines import Read
from tuneport.dataset.read.source import ROW_BYTES
from tuneport.dataset.read.strict_json import BAD

_SUSPECT = 3
"""A cell with so many lines inside that each look like a row gets a warning."""
_SWALLOWED = 10
"""With so many of them, a quote was not closed where it should be."""
_ROW_LIKE = 0.9  # the share of lines that must look like rows; a few cells hold a separator of their own


def rows(stream: BinaryIO, separator: str | None) -> Iterator[Read]:
    """A table whose first line names its columns. Lines may stand inside quotes; a row has the line where it starts.

    Where a quote takes in lines that it should not, the row's first line is refused and reading goes on behind it.
    """
    csv.field_size_limit(ROW_BYTES)
    lines = Lines(stream)
    header, named = lines.start()
    separator = named or separator or _separator(header)
    names = re.split(re.escape(separator), header)
    spaced = len(names) > 1 and all(name.startswith(" ") for name in names[1:])
    if spaced:
        lines.note("column-names", "A space follows each separator in the first line; it is left out.")
    for report in lines.notes:
        yield None, report
    yield from _Table(lines, separator, spaced=spaced).rows()


def _separator(header: str) -> str:
    """The separator that stands most often outside the quotes of a line."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(",;\t|", key=lambda one: (bare.count(one), one == ","))


class _Table:
    """The rows of a table, one after the other."""

    def __init__(self, lines: Lines, separator: str, *, spaced: bool) -> None:
        self._lines = lines
        self._separator = separator
        self._parse = partial(csv.reader, delimiter=separator, skipinitialspace=spaced, strict=True)
        self._fields = self._parse(lines)
        self._torn_until = 0  # up to this line, rows may be parts of a row that a quote tore

    def rows(self) -> Iterator[Read]:
        """All rows after the first line, which names the columns."""
        columns: Columns | None = None
        while (read := self._next()) is not None:
            fields, report = read
            if columns is not None and fields is not BAD:
                row = columns.row(fields, report)
                if report.failed and self._rewind_where_rows_were_torn(report):
                    row = None
                yield BAD if report.failed else row, report
            elif fields is BAD:
                if columns is None:
                    yield BAD, _of_file(report, 1)
                    return
                yield BAD, report
            elif any(map(str.strip, fields)):
                columns = read_header(fields, report)
                if columns is None:
                    yield BAD, _of_file(report)
                    return
                if report.found:
                    yield None, report
            else:
                report.add("blank-line", "The line is empty.")
                yield None, report
            if columns is not None:
                yield from self._at_once(columns)

    def _at_once(self, columns: Columns) -> Iterator[Read]:
        """The rows that come next, as long as each has one line: the short way for most tables."""
        lines = self._lines
        while lines.number >= self._torn_until and (texts := lines.at_once()):
            try:
                found = list(self._parse(texts))
            except csv.Error:
                found = []
            first = lines.number + 1
            lines.passed(len(texts), read=len(found) == len(texts))
            if len(found) != len(texts):
                return
            for number, fields in enumerate(found, first):
                report = RowReport(number)
                row = columns.row(fields, report)
                yield BAD if report.failed else row, report

    def _next(self) -> tuple[Any, RowReport] | None:
        """The fields of the next row, or BAD with the reason; None at the end."""
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
                self._go_on_after(first, error.code, f"{error} It would take in", report)
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
            return self._checked(fields, first, report)
        if first <= self._torn_until and lines.has_odd_quotes():
            report.add("bad-quoting", "A quote has no counterpart, in lines that a quote before them has torn.")
            return BAD, report
        return fields, report

    def _explain(self, error: str, first: int, report: RowReport) -> None:
        last = self._lines.number
        if last == first or self._lines.one_at_a_time:
            report.add("bad-quoting", _reason(error, self._separator))
        elif "end of data" in error:
            self._go_on_after(first, "bad-quoting", "A quote is not closed: it would take in", report)
        else:
            self._torn_until = last
            what = f"A quote is not closed, or {_reason(error, self._separator, last)} It would take in"
            self._go_on_after(first, "bad-quoting", what, report)

    def _go_on_after(self, first: int, code: str, what: str, report: RowReport) -> None:
        """Refuse the line where the row starts, and set the lines back so that reading goes on behind it."""
        last = self._lines.number
        goes_on = f"Line {first} is refused, and reading goes on at line {first + 1}."
        report.add(code, f"{what} lines {first} to {last}. {goes_on}")
        self._lines.rewind(first)

    def _checked(self, fields: list[str], first: int, report: RowReport) -> tuple[Any, RowReport]:
        """A row over several lines: refused where it has most likely swallowed rows."""
        inside, alike = self._row_like(len(fields))
        last = self._lines.number
        if inside < _SUSPECT or alike < inside * _ROW_LIKE:
            return fields, report
        if inside >= _SWALLOWED:
            self._torn_until = last
            self._go_on_after(first, "swallowed-rows", "A quote may not be closed: one cell takes in", report)
            return BAD, report
        report.add("rows-in-a-cell", f"One row takes in lines {first} to {last}, and each looks like a row.")
        return fields, report

    def _row_like(self, width: int) -> tuple[int, int]:
        """How many lines stand inside the row, without its first and its last; how many of them look like rows."""
        if width < 2:  # without a separator every line looks like a row
            return 0, 0
        separator = self._separator.encode()
        inside = self._lines.after_first()[:-1]
        return len(inside), sum(line.count(separator) == width - 1 for line in inside)

    def _rewind_where_rows_were_torn(self, report: RowReport) -> bool:
        """Read a ragged row over several lines again from its second line on, where those lines look like rows."""
        first, last = report.line or 0, self._lines.number
        others = self._lines.after_first()
        separator = self._separator.encode()
        if last == first or sum(separator in line for line in others) * 2 < len(others):
            return False
        report.found.clear()
        self._torn_until = last
        self._go_on_after(
            first, "bad-quoting", "A quote is not closed, or stands where none belongs: one row takes in", report
        )
        return True


def _of_file(report: RowReport, line: int = 0) -> RowReport:
    """The report of a first line that names no columns: it speaks of the file, and is no row that was refused."""
    if line and report.found[0].code != "not-utf8":
        report.found.clear()
        report.add("no-column-names", "The quotes of the first line do not match.")
    report.line = None
    return report


def _reason(error: str, separator: str, line: int | None = None) -> str:
    """What csv says, in our words."""
    where = f" in line {line}" if line else ""
    if "expected after" in error:
        said = f"a closing quote is followed by something other than {separator!r}{where}."
    elif "new-line character" in error:
        said = f"a carriage return stands in a field without quotes{where}."
    elif "field larger" in error:
        said = f"a field has more than {ROW_BYTES:,} bytes{where}: a closing quote may be missing."
    elif "end of data" in error:
        said = f"a quote is not closed{where}."
    else:
        said = f"{error}{where}."
    return said if line else f"{said[:1].upper()}{said[1:]}"
