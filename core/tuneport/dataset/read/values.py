"""Values to JSON's, by the same rules for Python objects, Arrow, Parquet and spreadsheets."""

from __future__ import annotations

import datetime as dt
import math
import struct
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

NOT_TEXT = "\0bytes"
"""The only key of an object that represents bytes which are not text; its value says why they are not."""


def to_json_value(value: Any, kinds: dict[str, str], column: str) -> Any:
    """The value as JSON has it. A value that is read as a text instead is noted in `kinds` under its column.

    Raises TypeError for a value that JSON has no form for.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {key: to_json_value(one, kinds, column) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_value(one, kinds, column) for one in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return _decode_bytes(bytes(value), kinds, column)
    if isinstance(value, dt.date | dt.time | dt.timedelta | Decimal):
        return _note_text(format_value(value), _kind(value), kinds, column)
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if type(value).__name__ == "datetime64":
        return to_json_value(value.astype("datetime64[us]").item(), kinds, column)
    if hasattr(value, "tolist"):
        listed = value.tolist()
        short = str(getattr(value, "dtype", "")) in ("float32", "float16") and isinstance(listed, float)
        return to_json_value(shortest_float(listed) if short and math.isfinite(listed) else listed, kinds, column)
    if type(value).__name__ == "NAType":
        return None
    if type(value).__name__ in ("Period", "Interval"):  # of pandas
        return _note_text(str(value), f"{type(value).__name__.lower()}s", kinds, column)
    return msgspec.to_builtins(value, enc_hook=_refuse)


def _note_text(text: str | None, kind: str, kinds: dict[str, str], column: str) -> str | None:
    if text is not None:
        kinds.setdefault(column, f"{kind}, read as texts such as {text}")
    return text


def format_value(value: dt.date | dt.time | dt.timedelta | Decimal) -> str | None:
    """A date, time, duration or decimal as text. Midnight without a time zone is left out: the value is a date."""
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


def shortest_float(value: float) -> float:
    """The float with the fewest digits that is equal in 32 bits: 0.1, not 0.10000000149."""
    for digits in (6, 7, 8):
        rounded = float(f"{value:.{digits}g}")
        if struct.pack("<f", rounded) == struct.pack("<f", value):
            return rounded
    return value


def column_note(column: str, kind: str) -> str:
    """The note on a column of values that are read as texts."""
    return f"{column} has {kind}."


def find_bytes(value: Any) -> str | None:
    """Why some bytes in a value are not text; None where there are no such bytes."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            if NOT_TEXT in one:
                return str(one[NOT_TEXT])
            stack.extend(one.values())
        elif isinstance(one, list):
            stack.extend(one)
    return None


def _decode_bytes(value: bytes, kinds: dict[str, str], column: str) -> Any:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1} of {len(value):,} is 0x{value[error.start]:02x}"
        return {NOT_TEXT: f"bytes that are not UTF-8: {where}"}
    kinds.setdefault(column, "bytes, read as UTF-8 texts")
    return text


def _kind(value: dt.date | dt.time | dt.timedelta | Decimal) -> str:
    if isinstance(value, Decimal):
        return "decimal numbers"
    if isinstance(value, dt.timedelta):
        return "durations"
    return "times" if isinstance(value, dt.time) else "dates"


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} has no form in JSON")
