"""Tables in memory and Parquet files: Arrow's columns to rows. Needs pyarrow."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from tuneport.dataset.findings import RowReport
from tuneport.dataset.source import ROW_BYTES, refuse_expansion
from tuneport.dataset.strictjson import BAD
from tuneport.errors import DataError, UnavailableError

_BATCH_ROWS = 1024
_BATCH_BYTES = 8 << 20  # of rows of the mean size
_BUFFER = 1 << 20
_MEMORY = 1 << 30  # bytes that decoding may take
_HEAD = struct.Struct("<?Q")
_SAID = 1000  # characters of an error


def parquet(name: str, stream: BinaryIO) -> Iterator[tuple[Any, RowReport]]:
    """The rows of a Parquet file, as they come; their number stands for a line. Another process decodes them, within a
    bound of memory: a few bytes can stand for gigabytes, and nothing in the file says so reliably.
    """
    _pyarrow()
    try:
        handle, size = stream.fileno(), os.fstat(stream.fileno()).st_size
    except OSError:  # gzipped
        raise DataError(f"{name} is Parquet inside of gzip.", remedy=f"Expand it first: gunzip {name}") from None
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tuneport.dataset.tables"],
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
            raise DataError(
                f"{name} cannot be read as Parquet: {why or 'the process that decodes it has ended.'}",
                remedy="Write the file once more, as Parquet with smaller row groups and pages, or as JSONL.",
            )
    finally:
        process.kill()
        process.communicate()


def _received(process: subprocess.Popen[bytes], size: int) -> Iterator[tuple[Any, RowReport]]:
    assert process.stdout is not None  # a pipe
    expanded = number = 0
    while len(head := process.stdout.read(_HEAD.size)) == _HEAD.size:
        beyond, length = _HEAD.unpack(head)
        number += 1
        report = RowReport(number)
        expanded += _HEAD.size + length
        refuse_expansion(size, expanded)
        if beyond:
            report.add("row-too-large", f"The row has {length:,} bytes; {ROW_BYTES:,} are the most.")
            yield BAD, report
        elif len(data := process.stdout.read(length)) == length:
            yield msgspec.msgpack.decode(data), report


def _send(file: BinaryIO, out: BinaryIO) -> None:
    """Write the rows of a Parquet file: of each whether it is beyond the bound, its size, and itself if it is not."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    pa.set_io_thread_count(1)
    _bound_memory()
    with ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as table:
        names = _label_names(table.schema_arrow)
        known = table.metadata
        for group in range(known.num_row_groups):
            mean = known.row_group(group).total_byte_size // max(1, known.row_group(group).num_rows) + 1
            rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // mean))
            for row in _rows(table.iter_batches(rows, row_groups=[group], use_threads=False), names):
                data = msgspec.msgpack.encode(row)
                beyond = len(data) > ROW_BYTES
                out.write(_HEAD.pack(beyond, len(data)) + (b"" if beyond else data))


def _bound_memory() -> None:
    """Let the system refuse this process more memory than it has now and `_MEMORY` beside it."""
    if sys.platform == "linux":
        import resource

        data = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (data + _MEMORY, data + _MEMORY))


def _main() -> int:
    try:
        _send(sys.stdin.buffer, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except MemoryError:  # pyarrow's own is one too
        sys.stderr.write(f"decoding it takes more than {_MEMORY:,} bytes of memory.")
        return 1
    except BrokenPipeError:
        os._exit(0)  # nobody reads any more
    except Exception as error:  # noqa: BLE001 - whatever a broken file makes the library raise
        sys.stderr.write(f"{str(error)[:_SAID]}.")
        return 1
    return 0


def arrow_rows(table: Any) -> Iterator[dict[str, Any]]:
    """The rows of anything that speaks the Arrow C stream protocol: pandas, polars, datasets, pyarrow itself."""
    _pyarrow()
    from pyarrow import RecordBatchReader

    reader = RecordBatchReader.from_stream(table)
    return _rows(reader, _label_names(reader.schema))


def _pyarrow() -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise UnavailableError(
            "Parquet files and data frames are read with pyarrow, which is not installed.",
            remedy="Run: pip install 'tuneport[parquet]'",
        )


def _rows(batches: Iterable[Any], names: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            for row in batch.slice(start, _BATCH_ROWS).to_pylist():
                for column, labels in names.items():
                    if isinstance(row[column], int) and 0 <= row[column] < len(labels):
                        row[column] = labels[row[column]]
                yield {column: _without_nulls(value) for column, value in row.items()}


def _without_nulls(value: Any) -> Any:
    """A value without the nulls that Arrow puts where an object lacks a key that objects in other rows have."""
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _label_names(schema: Any) -> dict[str, list[str]]:
    """The texts that whole numbers stand for, where Hugging Face's datasets noted them beside the columns."""
    noted = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(noted)["info"]["features"] if noted else {}
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and column in schema.names
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # somebody else's notes


if __name__ == "__main__":
    sys.exit(_main())
