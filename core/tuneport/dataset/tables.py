"""Tables in memory and Parquet files: Arrow's columns to rows. Needs pyarrow."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from tuneport.dataset.findings import RowReport
from tuneport.errors import DataError, UnavailableError

_BATCH_ROWS = 1024


def parquet(name: str, stream: BinaryIO) -> Iterator[tuple[Any, RowReport]]:
    """The rows of a Parquet file, as they come; their number stands for a line."""
    _pyarrow()
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(stream) as file:
            names = _label_names(file.schema_arrow)
            rows = _rows(file.iter_batches(batch_size=_BATCH_ROWS), names)
            for number, row in enumerate(rows, 1):
                yield row, RowReport(number)
    except (ArrowException, OSError) as error:
        raise DataError(f"{name} cannot be read as Parquet: {error}.", remedy="Write the file once more.") from error


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
