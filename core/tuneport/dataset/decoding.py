"""A process that decodes a binary file within a bound of memory: a few bytes can stand for gigabytes."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from tuneport.dataset.findings import RowReport
from tuneport.dataset.source import ROW_BYTES, ExpansionError, Source, refuse_expansion
from tuneport.dataset.strictjson import BAD
from tuneport.errors import DataError, UsageError

MEMORY = 1 << 30
"""Bytes that decoding may take."""
_ROW, _BEYOND, _NOTE, _UNUSABLE, _EXPANDS = range(5)
_HEAD = struct.Struct("<BQ")
_SAID = 1000  # characters of an error

Sent = tuple[dict[str, Any], None] | tuple[None, tuple[str, str, str]]
"""A row, or a note on the file: a code, a column and a message."""


class Unusable(Exception):  # noqa: N818 - crosses a pipe, and becomes a UsageError on the other side
    """What was asked of the file does not fit it: a message and a remedy."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def decoded(module: str, source: Source, stream: BinaryIO, *more: str, kind: str) -> Iterator[tuple[Any, RowReport]]:
    """The rows that `module` finds in an open file, as they come; their number stands for a line. `kind` is what the
    file is called. The module's process runs `main` below.
    """
    try:
        handle, size = stream.fileno(), os.fstat(stream.fileno()).st_size
    except OSError:  # gzipped
        raise DataError(
            f"{source.name} is {kind} inside of gzip.", remedy=f"Expand it first: gunzip {source.name}"
        ) from None
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, *more],
        stdin=handle,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others reserve a gigabyte ahead
        },
    )
    try:
        yield from _received(process, size)
        if process.wait():
            assert process.stderr is not None  # a pipe, see above
            why = process.stderr.read(_SAID).decode("utf-8", "replace").strip()
            if process.returncode < 0:
                why = f"the process that decodes it has ended; it may take more than {MEMORY:,} bytes of memory."
            raise DataError(
                f"{source.name} cannot be read as {kind}: {why or 'the process that decodes it has ended.'}",
                remedy="Write the file once more, as Parquet with smaller row groups and pages, or as JSONL."
                if kind == "Parquet"
                else "Save the sheet as CSV in UTF-8, and use that file.",
            )
    finally:
        process.kill()
        process.communicate()


def _received(process: subprocess.Popen[bytes], size: int) -> Iterator[tuple[Any, RowReport]]:
    assert process.stdout is not None  # a pipe
    expanded = number = 0
    while len(head := process.stdout.read(_HEAD.size)) == _HEAD.size:
        kind, length = _HEAD.unpack(head)
        expanded += _HEAD.size + length
        if kind == _BEYOND:
            number += 1
            report = RowReport(number)
            refuse_expansion(size, expanded)
            report.add("row-too-large", f"The row has {length:,} bytes; {ROW_BYTES:,} are the most.")
            yield BAD, report
            continue
        data = process.stdout.read(length)
        if len(data) < length:
            return
        if kind == _ROW:
            number += 1
            refuse_expansion(size, expanded)
            yield msgspec.msgpack.decode(data), RowReport(number)
        elif kind == _NOTE:
            code, column, message = msgspec.msgpack.decode(data)
            report = RowReport(None)
            report.add(code, message, column or None)
            yield None, report
        elif kind == _EXPANDS:
            raise ExpansionError("expands-too-much", msgspec.msgpack.decode(data))
        else:
            message, remedy = msgspec.msgpack.decode(data)
            raise UsageError(message, remedy=remedy)


def main(rows: Callable[[BinaryIO], Iterable[Sent]]) -> int:
    """Write what `rows` finds in the file on standard input to standard output; for a process of its own."""
    out = sys.stdout.buffer
    try:
        _bound_memory()
        for row, note in rows(sys.stdin.buffer):
            data = msgspec.msgpack.encode(row if note is None else note)
            kind = _NOTE if note is not None else _BEYOND if len(data) > ROW_BYTES else _ROW
            out.write(_HEAD.pack(kind, len(data)) + (b"" if kind == _BEYOND else data))
    except Unusable as error:
        data = msgspec.msgpack.encode((str(error), error.remedy))
        out.write(_HEAD.pack(_UNUSABLE, len(data)) + data)
    except ExpansionError as error:
        data = msgspec.msgpack.encode(error.message)
        out.write(_HEAD.pack(_EXPANDS, len(data)) + data)
    except MemoryError:  # pyarrow's own is one too
        sys.stderr.write(f"decoding it takes more than {MEMORY:,} bytes of memory.")
        return 1
    except BrokenPipeError:
        os._exit(0)  # nobody reads any more
    except BaseException as error:  # noqa: BLE001 - whatever a broken file makes a library raise, a Rust panic too
        sys.stderr.write(f"{str(error)[:_SAID]}.")
        return 1
    try:
        out.flush()
    except BrokenPipeError:
        os._exit(0)
    return 0


def _bound_memory() -> None:
    """Let the system refuse this process more memory than it has now and `MEMORY` beside it."""
    if sys.platform == "linux":
        import resource

        data = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (data + MEMORY, data + MEMORY))
