"""A process that decodes a binary file within a bound of memory: a few bytes can stand for gigabytes."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

import msgspec

from tuneport.dataset.findings.findings import RowReport
from tuneport.dataset.read.source import ROW_BYTES, ExpansionError, Source, refuse_expansion
from tuneport.dataset.read.strict_json import BAD
from tuneport.errors import DataError, UsageError

MEMORY = 1 << 30
"""Bytes that decoding may take."""
_ROW, _BEYOND, _NOTE, _UNUSABLE, _EXPANDS, _FAILED = range(6)
_HEAD = struct.Struct("<BQ")
_SAID = 1000  # characters of an error

Sent = tuple[dict[str, Any], None] | tuple[None, tuple[str, str, str]]
"""A row, or a note on the file: a code, a column and a message."""


class Unusable(Exception):  # noqa: N818 - crosses a pipe, and becomes a UsageError on the other side
    """What was asked of the file does not fit it: a message and a remedy."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class _Failed(Exception):  # noqa: N818 - becomes a DataError
    """Why a file cannot be decoded."""


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
    printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed below; no pipe, whose writer would wait for its reader
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, *more],
        stdin=handle,
        stdout=subprocess.PIPE,
        stderr=printed,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others reserve a gigabyte ahead
        },
    )
    try:
        yield from _received(process, size)
        if process.wait():
            raise _Failed(_end_of(process, printed))
    except _Failed as error:
        raise DataError(
            f"{source.name} cannot be read as {kind}: {error}.",
            remedy="Write the file again, as Parquet with smaller row groups and pages, or as JSONL."
            if kind == "Parquet"
            else "Save the sheet as CSV in UTF-8, and use that file.",
        ) from None
    finally:
        process.kill()
        process.communicate()
        printed.close()


def _end_of(process: subprocess.Popen[bytes], printed: IO[bytes]) -> str:
    """Why a process has ended that could not say it: the last line of what it printed, which is that of a traceback."""
    if process.returncode < 0:
        return f"the process that decodes it has ended; it may take more than {MEMORY:,} bytes of memory"
    printed.seek(max(0, printed.seek(0, os.SEEK_END) - _SAID))
    last = " ".join(printed.read(_SAID).decode("utf-8", "replace").strip().rpartition("\n")[2].split())
    return f"the process that decodes it has failed: {last.rstrip('.') or f'exit code {process.returncode}'}"


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
        elif kind == _FAILED:
            raise _Failed(msgspec.msgpack.decode(data))
        elif kind == _EXPANDS:
            raise ExpansionError("expands-too-much", msgspec.msgpack.decode(data))
        else:
            message, remedy = msgspec.msgpack.decode(data)
            raise UsageError(message, remedy=remedy)


def main(rows: Callable[[BinaryIO], Iterable[Sent]]) -> int:
    """Write what `rows` finds in the file on standard input to standard output; for a process of its own."""
    out = sys.stdout.buffer

    def send(kind: int, value: object) -> None:
        data = msgspec.msgpack.encode(value)
        out.write(_HEAD.pack(kind, len(data)) + data)

    try:
        _bound_memory()
        for row, note in rows(sys.stdin.buffer):
            data = msgspec.msgpack.encode(row if note is None else note)
            kind = _NOTE if note is not None else _BEYOND if len(data) > ROW_BYTES else _ROW
            out.write(_HEAD.pack(kind, len(data)) + (b"" if kind == _BEYOND else data))
    except Unusable as error:
        send(_UNUSABLE, (str(error), error.remedy))
    except ExpansionError as error:
        send(_EXPANDS, error.message)
    except MemoryError:  # pyarrow's own is one too
        send(_FAILED, f"decoding it takes more than {MEMORY:,} bytes of memory")
    except BrokenPipeError:
        os._exit(0)  # nobody reads any more
    except BaseException as error:  # noqa: BLE001 - whatever a broken file makes a library raise, a Rust panic too
        send(_FAILED, " ".join(str(error).split())[:_SAID].rstrip(".") or type(error).__name__)
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
