"""Data frames to rows: through Arrow where it supports their types, else value by value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tuneport.dataset.read.arrow import read_arrow
from tuneport.errors import UsageError

_NO_ARROW = ("period", "interval")  # of pandas: Arrow converts these to numbers and objects


def read_frame(frame: Any, kinds: dict[str, str]) -> Iterable[Any]:
    """The rows of any object with the Arrow C stream protocol; see `read_arrow`."""
    if type(frame).__name__ == "Series":
        raise UsageError("A series is a single column, not rows.", remedy="Pass a data frame with named columns.")
    module = type(frame).__module__.partition(".")[0]
    if module == "pandas":
        return _read_pandas(frame, kinds)
    if module == "polars" and any(str(kind) == "Object" for kind in frame.schema.values()):
        rows: Iterable[Any] = frame.iter_rows(named=True)
        return rows
    return read_arrow(frame, kinds)


def _read_pandas(frame: Any, kinds: dict[str, str]) -> Iterable[Any]:
    if not frame.columns.is_unique:
        repeated = ", ".join(dict.fromkeys(map(str, frame.columns[frame.columns.duplicated()])))
        raise UsageError(
            f"The data frame has several columns named {repeated}.", remedy="Rename all but one, or drop them."
        )
    if not any(_kind(dtype).startswith(_NO_ARROW) for dtype in frame.dtypes):
        try:
            return read_arrow(frame, kinds)
        except (ValueError, TypeError, NotImplementedError):  # pyarrow has no type for a column
            pass
    rows: Iterable[Any] = frame.rename(columns=str).to_dict("records")
    return rows


def _kind(dtype: Any) -> str:
    """The name of a column's type; for categories, the name of their values' type."""
    return str(getattr(getattr(dtype, "categories", None), "dtype", dtype))
