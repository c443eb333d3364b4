"""One way to read each value, whatever brought it: Python objects, Arrow, Parquet, a spreadsheet or JSON."""

from __future__ import annotations

import datetime as dt
import json
import math
import struct
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from tuneport.dataset.example import Example
from tuneport.dataset.findings.findings import RowReport
from tuneport.dataset.shapes.passages import FOREIGN, foreign_in
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.shapes.shapes import convert

_EXACT = 1 << 53  # beyond, not every whole number is a float
_OUTSIDE_TEXT = frozenset({"messages", "conversations", "tools", "parallel_tool_calls"})


def plain(value: Any, kinds: dict[str, str], column: str) -> Any:
    """The value as JSON has it. What is read as text in place of itself is noted in `kinds` under its column.

    Raises TypeError for what JSON has no form for.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {key: plain(one, kinds, column) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, kinds, column) for one in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return _text_of(bytes(value), kinds, column)
    if isinstance(value, dt.date | dt.time | dt.timedelta | Decimal):
        text = written(value)
        kinds.setdefault(column, f"{_kind(value)}, read as texts such as {text}") if text is not None else None
        return text
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if type(value).__name__ == "datetime64":
        return plain(value.astype("datetime64[us]").item(), kinds, column)
    if hasattr(value, "tolist"):
        listed = value.tolist()
        short = str(getattr(value, "dtype", "")) in ("float32", "float16") and isinstance(listed, float)
        return plain(shortest(listed) if short and math.isfinite(listed) else listed, kinds, column)
    if type(value).__name__ == "NAType":
        return None
    if type(value).__name__ in ("Period", "Interval"):  # of pandas
        kinds.setdefault(column, f"{type(value).__name__.lower()}s, read as texts such as {value}")
        return str(value)
    return msgspec.to_builtins(value, enc_hook=_refuse)


def written(value: dt.date | dt.time | dt.timedelta | Decimal) -> str | None:
    """A date, a time, a duration or a decimal as text. Midnight without a zone is not written: that is a date."""
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else None
    if type(value).__name__ == "NaTType":
        return None
    if isinstance(value, dt.timedelta):
        return str(value)
    if isinstance(value, dt.datetime):
        midnight = value.tzinfo is None and value.time() == dt.time() and not getattr(value, "nanosecond", 0)
        return value.date().isoformat() if midnight else value.isoformat()
    return value.isoformat()


def shortest(value: float) -> float:
    """The float that 32 bits were written as: 0.1, not 0.10000000149."""
    for digits in (6, 7, 8):
        rounded = float(f"{value:.{digits}g}")
        if struct.pack("<f", rounded) == struct.pack("<f", value):
            return rounded
    return value


def _text_of(value: bytes, kinds: dict[str, str], column: str) -> Any:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1} of {len(value):,} is 0x{value[error.start]:02x}"
        return {FOREIGN: f"bytes that are not UTF-8: {where}"}
    kinds.setdefault(column, "bytes, read as the UTF-8 text that they hold")
    return text


def _kind(value: dt.date | dt.time | dt.timedelta | Decimal) -> str:
    if isinstance(value, Decimal):
        return "decimal numbers"
    if isinstance(value, dt.timedelta):
        return "durations"
    return "times" if isinstance(value, dt.time) else "dates"


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} is no value of JSON")


def line_of(row: Any, kinds: dict[str, str]) -> bytes:
    """A row as one JSON line. NaN and lone surrogates are written as they are, for the checks to find."""
    try:
        return json.dumps(row).encode()
    except TypeError:  # some value is none of JSON's
        if isinstance(row, Mapping):
            row = {name: _plain_in(str(name), value, kinds) for name, value in row.items()}
        return json.dumps(plain(row, kinds, "")).encode()


def _plain_in(column: str, value: Any, kinds: dict[str, str]) -> Any:
    try:
        return plain(value, kinds, column)
    except TypeError as error:
        raise TypeError(f"in {column}, {error}") from error


def note_of(column: str, kind: str) -> str:
    """What is said of a column of such values."""
    return f"{column} holds {kind}."


def example_of(recipe: Recipe, values: Any, report: RowReport) -> Example | None:
    """The example of a row as `convert` finds it; a number in place of a text is read as text, which is noted."""
    found = len(report.found)
    example = convert(recipe, values, report)
    if not report.failed or not isinstance(values, dict):
        return example
    again = RowReport(report.line)
    again.found = report.found[:found]
    settled = dict(values)
    for role, column in recipe.columns.items():
        value = values.get(column)
        if isinstance(value, float) and role not in _OUTSIDE_TEXT:
            settled[column] = _number(value, column, again)
        elif foreign := foreign_in(value):
            again.add("not-utf8", f"{column} holds {foreign}.", f"/{column}")
    if again.failed:
        _take(report, again)
        return None
    if len(again.found) == found:
        return example
    example = convert(recipe, settled, again)
    _take(report, again)
    return example


def _take(report: RowReport, other: RowReport) -> None:
    report.found, report.failed, report.place = other.found, other.failed, other.place


def _number(value: float, column: str, report: RowReport) -> str | None:
    """A number as the text that it is read as."""
    if math.isnan(value):
        report.add("missing-value", f"{column} is NaN, which stands for no value.", f"/{column}")
        return None
    if math.isinf(value):
        report.add("non-finite-number", f"{column} is {value}.", f"/{column}")
        return None
    text = str(int(value)) if value.is_integer() and abs(value) <= _EXACT else repr(value)
    report.add("read-as-text", f'{column} is {value!r}, read as "{text}".', f"/{column}")
    return text
