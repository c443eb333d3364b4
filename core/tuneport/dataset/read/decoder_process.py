"""A process that decodes a binary file with limited memory, because a few bytes can expand to gigabytes."""

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

from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.lines import ROW_BYTES, too_large_message
from tuneport.dataset.read.source import ExpansionError, Source, refuse_expansion
from tuneport.dataset.read.strict_json import BAD
from tuneport.errors import DataError, UsageError

MEMORY = 1 << 30
"""Bytes of memory that decoding may take."""
_ROW, _TOO_LARGE, _NOTE, _UNUSABLE, _EXPANDS, _FAILED = range(6)
_HEAD = struct.Struct("<BQ")
_SHOWN = 1000  # characters of an error

Decoded = tuple[dict[str, Any], None] | tuple[None, tuple[str, str, str]]
"""A row, or a note on the file: a code, a column and a message."""


class Unusable(Exception):  # noqa: N818 - crosses a pipe and becomes a UsageError there
    """The file does not have what the user asked for: a message and a remedy."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class _Failed(Exception):  # noqa: N818 - becomes a DataError
    """Why a file cannot be decoded."""


def decode_rows(
    module: str, source: Source, stream: BinaryIO, *more: str, kind: str
) -> Iterator[tuple[Any, RowReport]]:
    """The rows that `module`, run as a process, decodes from an open file, streamed; each has its number as its line.

    The module calls `main` below with `more` as its arguments. `kind` names the format in messages.
    """
    try:
        handle, size = stream.fileno(), os.fstat(stream.fileno()).st_size
    except OSError:  # gzipped
        raise DataError(
            f"{source.name} is {kind} compressed with gzip.", remedy=f"Expand it first: gunzip {source.name}"
        ) from None
    printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed below; a pipe could block its writer
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, *more],
        stdin=handle,
        stdout=subprocess.PIPE,
        stderr=printed,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others reserve a gigabyte in advance
        },
    )
    try:
        yield from _receive_rows(process, size)
        if process.wait():
            raise _Failed(_failure_reason(process, printed))
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


def _failure_reason(process: subprocess.Popen[bytes], printed: IO[bytes]) -> str:
    """Why a process failed without sending the reason: the last line that it printed, which ends a traceback."""
    if process.returncode < 0:
        return f"the decoding process was killed; it may need more than {MEMORY:,} bytes of memory"
    printed.seek(max(0, printed.seek(0, os.SEEK_END) - _SHOWN))
    last = " ".join(printed.read(_SHOWN).decode("utf-8", "replace").strip().rpartition("\n")[2].split())
    return f"the decoding process failed: {last.rstrip('.') or f'exit code {process.returncode}'}"


def _receive_rows(process: subprocess.Popen[bytes], size: int) -> Iterator[tuple[Any, RowReport]]:
    assert process.stdout is not None  # a pipe
    expanded = number = 0
    while len(head := process.stdout.read(_HEAD.size)) == _HEAD.size:
        kind, length = _HEAD.unpack(head)
        expanded += _HEAD.size + length
        if kind == _TOO_LARGE:
            number += 1
            report = RowReport(number)
            refuse_expansion(size, expanded)
            report.add("row-too-large", too_large_message(length))
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


def main(rows: Callable[[BinaryIO], Iterable[Decoded]]) -> int:
    """In the decoding process: write what `rows` decodes from standard input to standard output."""
    out = sys.stdout.buffer

    def send(kind: int, value: object) -> None:
        data = msgspec.msgpack.encode(value)
        out.write(_HEAD.pack(kind, len(data)) + data)

    try:
        _limit_memory()
        for row, note in rows(sys.stdin.buffer):
            data = msgspec.msgpack.encode(row if note is None else note)
            kind = _NOTE if note is not None else _TOO_LARGE if len(data) > ROW_BYTES else _ROW
            out.write(_HEAD.pack(kind, len(data)) + (b"" if kind == _TOO_LARGE else data))
    except Unusable as error:
        send(_UNUSABLE, (str(error), error.remedy))
    except ExpansionError as error:
        send(_EXPANDS, error.message)
    except MemoryError:  # pyarrow's own is one too
        send(_FAILED, f"decoding it needs more than {MEMORY:,} bytes of memory")
    except BrokenPipeError:
        os._exit(0)  # the reader is gone
    except BaseException as error:  # noqa: BLE001 - a broken file can make a library raise anything, even a Rust panic
        send(_FAILED, " ".join(str(error).split())[:_SHOWN].rstrip(".") or type(error).__name__)
    try:
        out.flush()
    except BrokenPipeError:
        os._exit(0)
    return 0


def _limit_memory() -> None:
    """Let the system refuse this process more than `MEMORY` in addition to what it has now."""
    if sys.platform == "linux":
        import resource

        data = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (data + MEMORY, data + MEMORY))
