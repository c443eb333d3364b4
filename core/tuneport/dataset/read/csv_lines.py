"""The lines of a CSV file as text, with a way to rewind and read a row's lines again."""

from __future__ import annotations

import re
from typing import BinaryIO, cast

from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.lines import ROW_BYTES, read_blocks, split_lines, strip_bom, too_large_message

_HEAD = 1 << 16
_PIECE = 1 << 20
_TOGETHER = 1024
"""How many lines are read together where no row has several."""
_READ_AGAIN = 64 << 20
"""Bytes that may be read again in one file. After that each line is one row, so that time stays linear."""
_SHORT = 64  # a shorter line counts as this many bytes, since short lines take time by number
_SEPARATOR_LINE = re.compile(r'"?(?i:sep)=(.)"?\s*\Z')  # Excel's first line


class Unreadable(Exception):  # noqa: N818 - passes through csv.reader and is caught by its caller
    """A row that is too large, or whose quote is open at the end of a line that must be a complete row."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class CsvLines:
    """The lines of a stream, for csv.reader; `number` is the number of the last one."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = _LineFeeds(stream)
        self._blocks = read_blocks(cast("BinaryIO", self._stream))
        self._waiting: list[bytes] = []
        self._later: list[bytes] = []  # blocks to read before the stream continues, the next one last
        self._too_long = 0
        self.record = bytearray()
        """The lines of the row so far; the reader of rows clears it before each row."""
        self._again = 0
        self._singly_until = 0
        self.number = 0
        self.bad_bytes = ""
        """The message about bytes in the row that are not UTF-8."""
        self.notes: list[RowReport] = []
        self.one_at_a_time = False

    def read_start(self) -> tuple[str, str | None]:
        """The first line that is not blank, which is not consumed, and the separator that Excel names."""
        self._fill()
        if not self._waiting:
            return "", None
        report = RowReport(1)
        self._waiting[-1] = strip_bom(self._waiting[-1], report)
        if self._stream.translates:
            report.add("cr-line-ends", "Lines end with CR alone.")
        if named := _SEPARATOR_LINE.match(self._waiting[-1].decode("utf-8", "replace")):
            self._waiting.pop()
            self.number = 1
            report.add("separator-line", f"The first line names {named[1]!r} as the separator.")
        if report.found:
            self.notes.append(report)
        header = next((line for line in reversed(self._waiting) if line.strip()), b"")
        return header.decode("utf-8", "replace").rstrip("\r\n"), named[1] if named else None

    def next_lines(self) -> list[str]:
        """Some of the next lines as text, not consumed until `advance`; none where they must be read singly."""
        if not self._waiting and (self._later or not self._too_long):
            self._fill()
        if self.number < self._singly_until or not self._waiting:
            return []
        lines = self._waiting[-_TOGETHER:]
        try:
            return b"".join(reversed(lines)).decode("utf-8").split("\n")[: len(lines)]
        except UnicodeDecodeError:
            self._singly_until = self.number + len(lines)
            return []

    def advance(self, lines: int, *, read: bool) -> None:
        """Consume that many lines of `next_lines` if they were read, or else let them be read singly."""
        if read:
            del self._waiting[-lines:]
            self.number += lines
        else:
            self._singly_until = self.number + lines

    def note(self, code: str, message: str) -> None:
        """Add a note on the first line."""
        report = RowReport(self.number + 1)
        report.add(code, message)
        self.notes.append(report)

    def after_first(self) -> list[bytes]:
        """The lines of the row without its first."""
        return bytes(self.record).split(b"\n")[1:-1]

    def has_odd_quotes(self) -> bool:
        """Whether the row has a quote without a counterpart."""
        return self.record.count(b'"') % 2 == 1

    def rewind(self, first: int) -> None:
        """Read the lines of the row again, except for its first, whose number is `first`."""
        rest = bytes(self.record[self.record.find(b"\n") + 1 :])
        self.number = first
        self.bad_bytes = ""
        self._again += max(len(rest), _SHORT * rest.count(b"\n"))
        self.one_at_a_time = self.one_at_a_time or self._again > _READ_AGAIN
        if len(rest) <= _PIECE:
            self._waiting.extend([line + b"\n" for line in split_lines(rest)][::-1])
            return
        if self._waiting:
            self._later.append(b"".join(reversed(self._waiting)))
            self._waiting = []
        self._later.extend(_pieces(rest)[::-1])

    def _fill(self) -> None:
        if self._later:
            block = self._later.pop()
        else:
            block, self._too_long = next(self._blocks, (b"", 0))
        self._waiting = [line + b"\n" for line in split_lines(block)][::-1]

    def __iter__(self) -> CsvLines:
        return self

    def __next__(self) -> str:
        if self.one_at_a_time and self.record:
            raise Unreadable("bad-quoting", "A quote is open at the end of the line.")
        if not self._waiting and (self._later or not self._too_long):
            self._fill()
        if not self._waiting:
            if not self._too_long:
                raise StopIteration
            if self.record:  # the previous row ends here; the long line comes next
                raise Unreadable("row-too-large", "A quote is not closed before a line that is too large.")
            size, self._too_long = self._too_long, 0
            self.number += 1
            raise Unreadable("row-too-large", too_large_message(size))
        line = self._waiting.pop()
        self.number += 1
        self.record += line
        if len(self.record) > ROW_BYTES:
            raise Unreadable("row-too-large", f"The row has more than {ROW_BYTES:,} bytes: a quote may not be closed.")
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            where = f"Byte {error.start + 1} of line {self.number} is 0x{line[error.start]:02x}"
            self.bad_bytes = self.bad_bytes or f"{where}, which is not valid UTF-8 there."
            return line.decode("utf-8", "replace")


class _LineFeeds:
    """A stream whose lines end with a line feed, also where CR alone ends them, as on old Macs."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._head = stream.read(_HEAD)
        self.translates = b"\r" in self._head and b"\n" not in self._head

    def read(self, size: int) -> bytes:
        data = self._head or self._stream.read(size)
        self._head = b""
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if self.translates else data


def _pieces(block: bytes) -> list[bytes]:
    """A block cut after line ends, about _PIECE bytes at a time."""
    pieces, start = [], 0
    while start < len(block):
        end = block.find(b"\n", start + _PIECE) + 1 or len(block)
        pieces.append(block[start:end])
        start = end
    return pieces
