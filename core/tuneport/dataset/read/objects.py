"""Python objects to a source: each row becomes one JSON line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import index
from typing import Any, BinaryIO

from tuneport.dataset.read.sniff import FileNote
from tuneport.dataset.read.source import Source, Spool, stamp_of
from tuneport.dataset.read.values import column_note, to_json_value
from tuneport.errors import UsageError

Kinds = dict[str, str]
"""By column, what its values are that are read as texts."""
EncodeRow = Callable[[Any, Kinds], bytes]

_MEMORY = 8 << 20
_SHOWN = 10  # splits or columns in one message


def store_rows(rows: Iterable[Any], name: str, encode: EncodeRow, kinds: Kinds) -> Source:
    """Python objects as JSON lines, each written by `encode`: in memory while they are few, else in home.

    `kinds` is complete once the rows are read. Raises UsageError for a row that JSON cannot express.
    """
    held, spool = io.BytesIO(), None
    out: BinaryIO = held
    for number, row in enumerate(rows, 1):
        try:
            out.write(encode(row, kinds) + b"\n")
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(
                f"Row {number} cannot be written as JSON: {error}.",
                remedy="Pass rows as dictionaries of texts, numbers and lists.",
            ) from error
        if spool is None and held.tell() > _MEMORY:
            spool = Spool()
            out = spool.file
            out.write(held.getvalue())
            held = io.BytesIO()
    notes = tuple(FileNote("read-as-text", column_note(column, kind), column) for column, kind in kinds.items())
    if spool is None:
        return Source(name=name, format="jsonl", held=held.getvalue(), notes=notes)
    spool.file.close()
    stamp = stamp_of(spool.path.stat())
    return Source(name=name, format="jsonl", path=spool.path, stamp=stamp, spool=spool, notes=notes)


def encode_row(row: Any, kinds: Kinds) -> bytes:
    """A row as one JSON line. NaN and lone surrogates stay, so that the checks find them."""
    try:
        return json.dumps(row).encode()
    except TypeError:  # JSON has no form for some value
        if isinstance(row, Mapping):
            row = {name: _convert_column(str(name), value, kinds) for name, value in row.items()}
        return json.dumps(to_json_value(row, kinds, "")).encode()


def _convert_column(column: str, value: Any, kinds: Kinds) -> Any:
    try:
        return to_json_value(value, kinds, column)
    except TypeError as error:
        raise TypeError(f"in {column}, {error}") from error


def mapping_error(given: Mapping[Any, Any]) -> UsageError:
    """The error for a mapping: it has splits, such as Hugging Face's DatasetDict, or columns, or is one row."""
    names = [str(name) for name in islice(given, _SHOWN)]
    listed = ", ".join(names) + (", …" if len(given) > _SHOWN else "")
    values = list(given.values())
    kind = type(given).__name__
    if given and all(map(_is_table, values)):
        return UsageError(
            f"The {kind} has several datasets, its splits: {listed}.",
            remedy=f"Choose a split: Dataset.load(data[{names[0]!r}])",
        )
    if given and all(isinstance(one, list | tuple) for one in values):
        return UsageError(
            f"The {kind} has columns ({listed}) instead of rows.",
            remedy="Pass a list with a dictionary for each row, or a data frame.",
        )
    return UsageError(f"A single {kind} is not a dataset.", remedy="Put the row into a list: Dataset.load([row])")


def _is_table(value: object) -> bool:
    if hasattr(value, "features") or hasattr(value, "__arrow_c_stream__"):
        return True
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping) and "role" not in value[0]


def name_labels(given: Iterable[Any]) -> Iterable[Any]:
    """The rows, with the names that Hugging Face's ClassLabel features give to the integers in their columns."""
    features = getattr(given, "features", None)
    names = {
        str(column): list(feature.names)
        for column, feature in (features.items() if isinstance(features, Mapping) else ())
        if type(feature).__name__ == "ClassLabel" and feature.names
    }
    return _replace_labels(given, names) if names else given


def _replace_labels(rows: Iterable[Any], names: Mapping[str, Sequence[str]]) -> Iterator[Any]:
    for row in rows:
        yield {
            column: names[column][number]
            if column in names and 0 <= (number := _as_index(value)) < len(names[column])
            else value
            for column, value in row.items()
        }


def _as_index(value: object) -> int:
    """An integer, also one of NumPy or PyTorch (`with_format`); -1 for anything else."""
    try:
        return index(value)  # type: ignore[arg-type]  # raises TypeError for what is not an integer
    except TypeError:
        return -1
