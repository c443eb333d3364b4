"""JSON files of any size to rows: decoded and parsed as a stream."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO

import msgspec

from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.jsonl import Read, refuse_null
from tuneport.dataset.read.lines import ROW_BYTES
from tuneport.dataset.read.strict_json import BAD, check_value, decoder, describe_error

_SINGLE_ROWS = ("messages", "conversations", "prompt", "instruction", "question", "text", "chosen", "input", "shape")


def read_json(stream: BinaryIO) -> Iterator[Read]:
    """The rows of an array, of an object that contains one list of rows, or of values one after another.

    Where the first two rows are on one line, each row has its number instead of its line.
    """
    reads = _read_values(stream)
    held: list[Read] = []
    while sum(_is_row(read) for read in held) < _ENOUGH and (read := next(reads, None)):
        held.append(read)
    lines = [report.line for value, report in filter(_is_row, held)]
    if len(lines) < _ENOUGH or lines[0] != lines[1]:
        yield from held
        yield from reads
        return
    note = RowReport(None)
    note.add("row-numbers", "Rows share a line, so findings give the numbers of rows.")
    yield None, note
    yield from _number_rows(chain(held, reads))


_ENOUGH = 2


def _is_row(read: Read) -> bool:
    return read[0] is not None


def _number_rows(reads: Iterable[Read]) -> Iterator[Read]:
    """The same rows, each with its number instead of its line."""
    number = 0
    for value, report in reads:
        if value is not None:
            number += 1
            report.line = number
            report.found = [msgspec.structs.replace(finding, line=number) for finding in report.found]
        yield value, report


def _read_values(stream: BinaryIO) -> Iterator[Read]:
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
            if text.peek() == ",":  # rows that were cut out of an array
                text.skip()
    except _Broken as broken:
        yield BAD, broken.report


def _members(text: _Text) -> Iterator[Read]:
    """The rows of the one list in an object; its other members describe the file and are not rows."""
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
                message = f"The object has a second list of rows, {name!r}, which is not read."
                report.add("mixed-shapes", message, None, "Write each list to a separate file.")
                yield BAD, report
        if text.peek() == ",":
            text.skip()
    text.expect("}")


class _Broken(Exception):  # noqa: N818 - control flow within this file; no caller sees it
    def __init__(self, report: RowReport) -> None:
        self.report = report


class _Text:
    """JSON text that is decoded and parsed as a stream, with not much more than a row in memory."""

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
        """Read more and drop what is parsed; false at the end of the file."""
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
                "not-utf8", f"Byte {self._bytes + error.start + 1} of the file is not UTF-8. The rest is not read."
            )
            raise _Broken(report) from error
        self._bytes += len(data)
        self._ended = not data
        return bool(data)

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
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
            self._refuse_too_large()
        return inside[:1]

    def skip(self) -> None:
        """Skip the character that `peek` returned."""
        self._at += 1

    def expect(self, character: str) -> None:
        """Skip that character, or stop reading the file if it is another."""
        if self.peek() != character:
            raise self._broken(f"Expected {character!r}. The rest of the file is not read.")
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
                if self._may_continue(error) and self._more():
                    continue
                self._refuse_too_large()
                raise self._broken(f"{describe_error(shown)} The rest of the file is not read.") from error
            except RecursionError as error:
                raise self._broken("Values are nested too deep. The rest is not read.", "too-deep") from error
            if end == len(self._text) and self._more():
                self._refuse_too_large()
                continue  # a number may continue
            self._line += self._text.count("\n", self._at, end)
            self._at = end
            return refuse_null(check_value(value, report), report), report

    def _refuse_too_large(self) -> None:
        """Stop reading the file if the value that starts here is larger than a row may be."""
        if len(self._text) - self._at > ROW_BYTES:
            raise self._broken(f"A row has more than {ROW_BYTES:,} bytes. The rest is not read.", "row-too-large")

    def _may_continue(self, error: json.JSONDecodeError) -> bool:
        """Whether the error may be only that the text ends here."""
        if len(self._text) - self._at > ROW_BYTES:
            return False
        return error.msg.startswith("Unterminated") or error.pos > len(self._text) - 16

    def items(self) -> Iterator[Read]:
        """The items of the array after its opening bracket."""
        while self.peek() not in ("]", ""):
            yield self.value()
            if self.peek() == ",":
                self.skip()
                if self.peek() == "]":
                    raise self._broken("There is a comma before the closing bracket.")
            elif self.peek() != "]":
                break
        self.expect("]")

    def list_ahead(self) -> bool:
        """Whether the object that starts here contains a list of rows and is not a row itself."""
        while len(self._text) - self._at < 1 << 16 and self._more():
            pass
        try:
            value, end = decoder.raw_decode(self._text, self._at)
        except (ValueError, RecursionError):  # it is longer than the text read so far: decide by its first name
            name = (
                json.JSONDecoder().raw_decode(self._text, self._text.find('"', self._at))[0]
                if '"' in self._text
                else ""
            )
            return name not in _SINGLE_ROWS and "[" in self._text
        if self._text[end:].lstrip().startswith("{") or any(name in _SINGLE_ROWS for name in value):
            return False
        return any(isinstance(one, list) and one and isinstance(one[0], dict) for one in value.values())
