"""Tables in memory and Parquet files: Arrow's columns to rows. Needs pyarrow."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from tuneport.dataset.findings.findings import RowReport
from tuneport.dataset.read.decoder_process import Sent, Unusable, decoded, main
from tuneport.dataset.read.source import Source
from tuneport.dataset.read.values import note_of, plain, shortest
from tuneport.errors import UnavailableError, UsageError

_BATCH_ROWS = 1024
_BATCH_BYTES = 8 << 20  # of rows of the mean size
_BUFFER = 1 << 20


def parquet(source: Source, stream: BinaryIO) -> Iterator[tuple[Any, RowReport]]:
    """The rows of a Parquet file, as they come; their number stands for a line. Another process decodes them."""
    _pyarrow()
    return decoded(__name__, source, stream, kind="Parquet")


def _sent(file: BinaryIO) -> Iterator[Sent]:
    """The rows of a Parquet file, and notes on its columns."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    pa.set_io_thread_count(1)
    kinds: dict[str, str] = {}
    noted: set[str] = set()
    with ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as table:
        if repeated := _repeated(table.schema_arrow):
            raise Unusable(f"The file has several columns {repeated}.", "Rename all but one, or drop them.")
        names = _label_names(table.schema_arrow)
        known = table.metadata
        for group in range(known.num_row_groups):
            mean = known.row_group(group).total_byte_size // max(1, known.row_group(group).num_rows) + 1
            rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // mean))
            for row in _rows(table.iter_batches(rows, row_groups=[group], use_threads=False), names, kinds):
                for column in kinds.keys() - noted:
                    noted.add(column)
                    yield None, ("read-as-text", column, note_of(column, kinds[column]))
                yield row, None


def arrow_rows(table: Any, kinds: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The rows of anything that speaks the Arrow C stream protocol: pandas, polars, datasets, pyarrow itself. What is
    read as text is noted in `kinds` by column.
    """
    _pyarrow()
    from pyarrow import RecordBatchReader

    reader = RecordBatchReader.from_stream(table)
    if repeated := _repeated(reader.schema):
        raise UsageError(f"The table has several columns {repeated}.", remedy="Rename all but one, or drop them.")
    return _rows(reader, _label_names(reader.schema), kinds)


def _repeated(schema: Any) -> str:
    """The names that several columns have."""
    return ", ".join(dict.fromkeys(name for name in schema.names if schema.names.count(name) > 1))


def _pyarrow() -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise UnavailableError(
            "Parquet files and data frames are read with pyarrow, which is not installed.",
            remedy="Run: pip install 'tuneport[parquet]'",
        )


def _rows(batches: Iterable[Any], names: dict[str, list[str]], kinds: dict[str, str]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        short = {field.name for field in batch.schema if str(field.type) in ("float", "halffloat")}
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            for row in _coarser(batch.slice(start, _BATCH_ROWS)).to_pylist():
                for column, labels in names.items():
                    if isinstance(row[column], int) and 0 <= row[column] < len(labels):
                        row[column] = labels[row[column]]
                for column in short:
                    if row[column] is not None:
                        row[column] = shortest(row[column])
                yield {column: _without_nulls(value, kinds, column) for column, value in row.items()}


def _coarser(batch: Any) -> Any:
    """The batch with times in microseconds, which Python's own take; nanoseconds would need pandas."""
    import pyarrow as pa

    for place, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            cast = batch.column(place).cast(pa.timestamp("us", field.type.tz), safe=False)
            batch = batch.set_column(place, field.name, cast)
    return batch


def _without_nulls(value: Any, kinds: dict[str, str], column: str) -> Any:
    """A value without the nulls that Arrow puts where an object lacks a key that objects in other rows have. NaN is
    what data frames put where there is no value.
    """
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, dict):
        return {key: _without_nulls(one, kinds, column) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_nulls(one, kinds, column) for one in value]
    return None if value != value else plain(value, kinds, column)


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
    sys.exit(main(_sent))
