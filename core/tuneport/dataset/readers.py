"""Bytes to rows, format by format: each row a value with its line, or what made it unreadable."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from tuneport.dataset import tables
from tuneport.dataset.findings import RowReport
from tuneport.dataset.source import ROW_BYTES, ExpansionError, Source, blocks
from tuneport.dataset.strictjson import BAD, decoder, parse, say, value_of

Read = tuple[Any, RowReport]
"""A row's value, or BAD with the reason in the report; or None for what is no row: a blank line, a note on the file."""

_SINGLE_ROWS = ("messages", "conversations", "prompt", "instruction", "question", "text", "chosen", "input", "shape")


def read(source: Source) -> Iterator[Read]:
    """The rows of a source, without hurry; streams, whatever the size. What is wrong with the file is a row's BAD too,
    in a report without a line.
    """
    report = RowReport(None)
    if source.utf16:
        report.add("utf-16", "The file starts as UTF-16 does.")
        yield BAD, report
        return
    with source.open() as stream:
        try:
            yield from _rows(source, stream)
        except ExpansionError as error:
            report.add(error.code, error.message)
            yield BAD, report


def _rows(source: Source, stream: BinaryIO) -> Iterator[Read]:
    if source.format == "jsonl":
        return _jsonl(stream)
    if source.format == "json":
        return _json(stream)
    if source.format == "parquet":
        return tables.parquet(source.name, stream)
    return _csv(stream, "\t" if source.format == "tsv" else None)


def _jsonl(stream: BinaryIO) -> Iterator[Read]:
    line = 0
    for block, too_long in blocks(stream):
        if too_long:
            line += 1
            yield BAD, too_large(line, too_long)
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
    yield _row(parse(raw, report), report), report


def _row(value: Any, report: RowReport) -> Any:
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


def too_large(line: int, size: int) -> RowReport:
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


def _json(stream: BinaryIO) -> Iterator[Read]:
    """An array of rows, an object that holds one such list, or rows one after the other."""
    try:
        text = _Text(stream)
        if text.marked:
            report = RowReport(1)
            report.add("byte-order-mark", "The file starts with a byte order mark.")
            yield None, report
        first = text.peek()
        if first == "[":
            text.skip()
            yield from text.items()
        elif first == "{" and text.list_ahead():
            yield from _members(text)
        while text.peek():
            yield text.value()
    except _Broken as broken:
        yield BAD, broken.report


def _members(text: _Text) -> Iterator[Read]:
    """The rows of the one list in an object; its other members say something about the file, and are no rows."""
    text.skip()
    lists = 0
    while text.peek() not in ("}", ""):
        name, _ = text.value()
        text.expect(":")
        if not lists and text.peek() == "[" and text.peek_inside() == "{":
            lists += 1
            text.skip()
            yield from text.items()
        else:
            value, report = text.value()
            if isinstance(value, list) and value and isinstance(value[0], dict):
                report.failed = False
                report.add("mixed-shapes", f"The object has a second list of rows, {name!r}, which is not read.")
                yield BAD, report
        if text.peek() == ",":
            text.skip()
    text.expect("}")


class _Broken(Exception):  # noqa: N818 - control flow within this file, not an error that anyone sees
    def __init__(self, report: RowReport) -> None:
        self.report = report


class _Text:
    """JSON text that is decoded and parsed as it comes; never much more of it in memory than a row."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._line = 1
        self._bytes = 0
        self._ended = False
        self._more()
        self.marked = self._text.startswith("\ufeff")
        self._at = int(self.marked)

    def _more(self) -> bool:
        """Read on; false at the end of the file. What is parsed already is let go."""
        if self._ended:
            return False
        self._text = self._text[self._at :]
        self._at = 0
        data = self._stream.read(max(1 << 16, len(self._text)))
        try:
            self._text += self._decode.decode(data, final=not data)
        except UnicodeDecodeError as error:
            report = RowReport(self._line + self._text.count("\n"))
            report.add(
                "not-utf8", f"Byte {self._bytes + error.start + 1} of the file is not UTF-8; the rest is not read."
            )
            raise _Broken(report) from error
        self._bytes += len(data)
        self._ended = not data
        return bool(data)

    def peek(self) -> str:
        """The next character that is not white space, or an empty text at the end."""
        while True:
            while self._at < len(self._text):
                here = self._text[self._at]
                if here not in " \t\r\n":
                    return here
                self._line += here == "\n"
                self._at += 1
            if not self._more():
                return ""

    def peek_inside(self) -> str:
        """The first character that is not white space after the bracket that `peek` saw."""
        while not (inside := self._text[self._at + 1 :].lstrip(" \t\r\n")) and self._more():
            pass
        return inside[:1]

    def skip(self) -> None:
        """Go past the character that `peek` saw."""
        self._at += 1

    def expect(self, character: str) -> None:
        """Go past that character, or give up on the file."""
        if self.peek() != character:
            raise self._broken(f"Here should stand {character!r}; the rest of the file is not read.")
        self.skip()

    def _broken(self, message: str, code: str = "invalid-json") -> _Broken:
        report = RowReport(self._line)
        report.add(code, message)
        return _Broken(report)

    def value(self) -> Read:
        """The value that starts here."""
        self.peek()
        report = RowReport(self._line)
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                shown = json.JSONDecodeError(error.msg, self._text[self._at :], error.pos - self._at)
                if self._may_go_on(error) and self._more():
                    continue
                if len(self._text) - self._at > ROW_BYTES:
                    raise self._broken(
                        f"A row has more than {ROW_BYTES:,} bytes; the rest is not read.", "row-too-large"
                    ) from error
                raise self._broken(f"{say(shown)} The rest of the file is not read.") from error
            except RecursionError as error:
                raise self._broken("Values are nested too deep; the rest is not read.", "too-deep") from error
            if end == len(self._text) and self._more():
                continue  # a number may go on
            self._line += self._text.count("\n", self._at, end)
            self._at = end
            return _row(value_of(value, report), report), report

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether the error is that the text read so far ends, not that it is wrong."""
        if len(self._text) - self._at > ROW_BYTES:
            return False
        return error.msg.startswith("Unterminated") or error.pos > len(self._text) - 16

    def items(self) -> Iterator[Read]:
        """The items of the array whose bracket was passed."""
        while self.peek() not in ("]", ""):
            yield self.value()
            if self.peek() == ",":
                self.skip()
                if self.peek() == "]":
                    raise self._broken("A comma stands before the closing bracket.")
            elif self.peek() != "]":
                break
        self.expect("]")

    def list_ahead(self) -> bool:
        """Whether the object that starts here holds a list of rows, and is not a row itself."""
        while len(self._text) - self._at < 1 << 16 and self._more():
            pass
        try:
            value, end = decoder.raw_decode(self._text, self._at)
        except (ValueError, RecursionError):  # it is longer than what was read: its first name must do
            name = (
                json.JSONDecoder().raw_decode(self._text, self._text.find('"', self._at))[0]
                if '"' in self._text
                else ""
            )
            return name not in _SINGLE_ROWS and "[" in self._text
        if self._text[end:].lstrip().startswith("{") or any(name in _SINGLE_ROWS for name in value):
            return False
        return any(isinstance(one, list) and one and isinstance(one[0], dict) for one in value.values())


def _csv(stream: BinaryIO, separator: str | None) -> Iterator[Read]:
    """A table whose first line names its columns. Lines may stand inside quotes; a row has the line where it starts."""
    csv.field_size_limit(ROW_BYTES)
    lines = _Lines(stream)
    header = lines.first()
    for report in lines.notes:
        yield None, report
    if separator is None:
        separator = max(",;\t|", key=lambda one: (header.count(one), one == ","))
    rows = csv.reader(lines, delimiter=separator, strict=True)
    names: list[str] | None = None
    while True:
        report = RowReport(lines.number + 1)
        try:
            row = next(rows)
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
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        return f"The first line names {', '.join(map(repr, repeated))} more than once."
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
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            message = f"Byte {error.start + 1} of the line is 0x{line[error.start]:02x}, which is not UTF-8 there."
            raise _Unreadable("not-utf8", message, self.number) from error
