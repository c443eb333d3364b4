"""Data frames to rows: through Arrow where it takes them, value by value where it does not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tuneport.dataset.read.arrow import arrow_rows
from tuneport.errors import UsageError

_NO_ARROW = ("period", "interval")  # of pandas: Arrow has numbers and objects in place of these


def frame_rows(frame: Any, kinds: dict[str, str]) -> Iterable[Any]:
    """The rows of anything that speaks the Arrow C stream protocol; see `arrow_rows`."""
    if type(frame).__name__ == "Series":
        raise UsageError("A series is one column, and rows are wanted.", remedy="Give a data frame with named columns.")
    module = type(frame).__module__.partition(".")[0]
    if module == "pandas":
        return _of_pandas(frame, kinds)
    if module == "polars" and any(str(kind) == "Object" for kind in frame.schema.values()):
        rows: Iterable[Any] = frame.iter_rows(named=True)
        return rows
    return arrow_rows(frame, kinds)


def _of_pandas(frame: Any, kinds: dict[str, str]) -> Iterable[Any]:
    if not frame.columns.is_unique:
        repeated = ", ".join(dict.fromkeys(map(str, frame.columns[frame.columns.duplicated()])))
        raise UsageError(f"The data frame has several columns {repeated}.", remedy="Rename all but one, or drop them.")
    if not any(_kind(dtype).startswith(_NO_ARROW) for dtype in frame.dtypes):
        try:
            return arrow_rows(frame, kinds)
        except (
            ValueError,
            TypeError,
            NotImplementedError,
        ):  # pyarrow's errors are such: it has no type for a column
            pass
    rows: Iterable[Any] = frame.rename(columns=str).to_dict("records")
    return rows


def _kind(dtype: Any) -> str:
    """The name of a column's type; of categories, that of their type."""
    return str(getattr(getattr(dtype, "categories", None), "dtype", dtype))
