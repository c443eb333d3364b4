"""Arrow tables in memory and Parquet files to rows. Requires pyarrow."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.decoder_process import Decoded, Unusable, decode_rows, main
from tuneport.dataset.read.source import Source
from tuneport.dataset.read.values import column_note, shortest_float, to_json_value
from tuneport.errors import UnavailableError, UsageError

_BATCH_ROWS = 1024
_BATCH_BYTES = 8 << 20  # of rows of the mean size
_BUFFER = 1 << 20


def read_parquet(source: Source, stream: BinaryIO) -> Iterator[tuple[Any, RowReport]]:
    """The rows of a Parquet file, streamed; each has its number as its line. Another process decodes them."""
    _require_pyarrow()
    return decode_rows(__name__, source, stream, kind="Parquet")


def _decode_file(file: BinaryIO) -> Iterator[Decoded]:
    """The rows of a Parquet file, and notes on its columns."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    pa.set_io_thread_count(1)
    kinds: dict[str, str] = {}
    noted: set[str] = set()
    with ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as table:
        if repeated := _find_repeated(table.schema_arrow):
            raise Unusable(f"The file has several columns named {repeated}.", "Rename all but one, or drop them.")
        names = _label_names(table.schema_arrow)
        metadata = table.metadata
        for group in range(metadata.num_row_groups):
            mean = metadata.row_group(group).total_byte_size // max(1, metadata.row_group(group).num_rows) + 1
            rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // mean))
            for row in _rows(table.iter_batches(rows, row_groups=[group], use_threads=False), names, kinds):
                for column in kinds.keys() - noted:
                    noted.add(column)
                    yield None, ("read-as-text", column, column_note(column, kinds[column]))
                yield row, None


def read_arrow(table: Any, kinds: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The rows of any object with the Arrow C stream protocol: of pandas, polars, datasets or pyarrow itself. `kinds`
    notes, by column, values that are read as texts.
    """
    _require_pyarrow()
    from pyarrow import RecordBatchReader

    reader = RecordBatchReader.from_stream(table)
    if repeated := _find_repeated(reader.schema):
        raise UsageError(f"The table has several columns named {repeated}.", remedy="Rename all but one, or drop them.")
    return _rows(reader, _label_names(reader.schema), kinds)


def _find_repeated(schema: Any) -> str:
    """The names that more than one column has."""
    return ", ".join(dict.fromkeys(name for name in schema.names if schema.names.count(name) > 1))


def _require_pyarrow() -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise UnavailableError(
            "Reading Parquet files and data frames requires pyarrow, which is not installed.",
            remedy="Run: pip install 'tuneport[parquet]'",
        )


def _rows(batches: Iterable[Any], names: dict[str, list[str]], kinds: dict[str, str]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        short = {field.name for field in batch.schema if str(field.type) in ("float", "halffloat")}
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            for row in _in_microseconds(batch.slice(start, _BATCH_ROWS)).to_pylist():
                for column, labels in names.items():
                    if isinstance(row[column], int) and 0 <= row[column] < len(labels):
                        row[column] = labels[row[column]]
                for column in short:
                    if row[column] is not None:
                        row[column] = shortest_float(row[column])
                yield {column: _drop_nulls(value, kinds, column) for column, value in row.items()}


def _in_microseconds(batch: Any) -> Any:
    """The batch with times in microseconds, as Python has them; nanoseconds would need pandas."""
    import pyarrow as pa

    for place, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            cast = batch.column(place).cast(pa.timestamp("us", field.type.tz), safe=False)
            batch = batch.set_column(place, field.name, cast)
    return batch


def _drop_nulls(value: Any, kinds: dict[str, str], column: str) -> Any:
    """A value without the nulls that Arrow adds where an object lacks a key that other rows' objects have. NaN means
    no value, as in data frames.
    """
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, dict):
        return {key: _drop_nulls(one, kinds, column) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_drop_nulls(one, kinds, column) for one in value]
    return None if value != value else to_json_value(value, kinds, column)


def _label_names(schema: Any) -> dict[str, list[str]]:
    """By column, the names of integer labels that Hugging Face's datasets noted in the schema."""
    noted = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(noted)["info"]["features"] if noted else {}
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and column in schema.names
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # another program's metadata


if __name__ == "__main__":
    sys.exit(main(_decode_file))
