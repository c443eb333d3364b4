"""Lines of a stream: read block by block, with their ends, byte order marks and size limit."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from tuneport.dataset.findings.row_report import RowReport

ROW_BYTES = 32 << 20
"""A row with more bytes than this is refused."""


def read_blocks(stream: BinaryIO, size: int = 1 << 20) -> Iterator[tuple[bytes, int]]:
    """Complete lines, about `size` bytes at a time. A line longer than ROW_BYTES comes as `(b"", its length)`.

    Only a line feed ends a line: U+2028 and similar characters may be inside texts.
    """
    parts: list[bytes] = []
    held = 0
    while data := stream.read(size):
        cut = data.rfind(b"\n") + 1
        if not cut:
            held += len(data)
            if held <= ROW_BYTES:
                parts.append(data)
            else:
                parts.clear()
            continue
        if held > ROW_BYTES or held + data.find(b"\n") > ROW_BYTES:
            start = data.find(b"\n") + 1
            yield b"", held + start
            lines = data[start:cut]
        else:
            lines = b"".join((*parts, data[:cut]))
        if lines:
            yield lines, 0
        parts = [data[cut:]] if cut < len(data) else []
        held = len(data) - cut
    if held > ROW_BYTES:
        yield b"", held
    elif held:
        yield b"".join(parts), 0


def split_lines(block: bytes) -> list[bytes]:
    """The lines of a block, without their ends."""
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def report_too_large(line: int, size: int) -> RowReport:
    """The report of a line that is larger than the limit."""
    report = RowReport(line)
    report.add("row-too-large", too_large_message(size))
    return report


def too_large_message(size: int) -> str:
    """The message for a row of that many bytes."""
    return f"The row has {size:,} bytes. The limit is {ROW_BYTES:,}."


def strip_bom(start: bytes, report: RowReport) -> bytes:
    """The start of a file without a byte order mark. The mark is noted, and so are line ends as on Windows."""
    if start.partition(b"\n")[0].endswith(b"\r"):
        report.add("crlf", "The first line ends with CR LF.")
    if start.startswith(codecs.BOM_UTF8):
        report.add("byte-order-mark", "The file starts with a byte order mark.")
    return start.removeprefix(codecs.BOM_UTF8)
