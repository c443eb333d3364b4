"""What a value that crosses the border must be: its type, its range, a time, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from tuneport.contract.border import WrongReturn
from tuneport.printable import one_line

_encode = json.JSONEncoder(allow_nan=False).encode


def require(holds: object, problem: str) -> None:
    """Raise WrongReturn with the problem unless it holds."""
    if not holds:
        raise WrongReturn(problem)


def show(value: object) -> str:
    """A value as a message quotes it: shortened, with its type."""
    try:
        text = one_line(repr(value))
    except Exception:  # noqa: BLE001 - a plan, say, that cannot be printed because it is wrong
        return f"a broken {type(value).__name__}"
    return f"{text if len(text) <= 60 else text[:59] + '…'} ({type(value).__name__})"


def require_type(value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Raise WrongReturn unless the value has the type; a bool is no number."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds):
        return
    names = " or ".join("None" if one is type(None) else one.__name__ for one in kinds)
    raise WrongReturn(f"{what} is {show(value)}, not {names}")


def require_word(value: object, words: Collection[str], what: str) -> None:
    """Raise WrongReturn unless the value is one of the words."""
    if not (isinstance(value, str) and value in words):
        raise WrongReturn(f"{what} is {show(value)}, not one of {list_words(words)}")


def require_number(value: object, what: str, *, whole: bool = False, least: float = 0, optional: bool = False) -> None:
    """Raise WrongReturn unless it is a finite number of at least `least`; a whole one; or None, where `optional`."""
    if optional and value is None:
        return
    require_type(value, int if whole else (int, float), what)
    require(math.isfinite(value) and value >= least, f"{what} is {value}; it must be at least {least:g}")  # type: ignore[arg-type,operator]  # a number, as just checked


def require_time(value: object, what: str, *, optional: bool = False) -> None:
    """Raise WrongReturn unless it is a datetime in UTC with its zone; or None, where `optional`."""
    if optional and value is None:
        return
    require_type(value, datetime, what)
    utc = isinstance(value, datetime) and value.utcoffset() == timedelta(0)
    require(utc, f"{what} is {value}, not a time in UTC with its zone, such as tuneport.plugin.utc_now()")


def require_json(value: object, what: str) -> None:
    """Raise WrongReturn unless a mapping can be written as JSON, finite numbers only."""
    require_type(value, Mapping, what)
    try:
        _encode(value if isinstance(value, dict) else dict(value))  # type: ignore[call-overload]  # a mapping, as just checked
    except (TypeError, ValueError, RecursionError) as error:
        raise WrongReturn(f"{what} is not JSON: {error}") from None


def list_words(words: Collection[str]) -> str:
    """Words in a fixed order, as a message lists them."""
    return ", ".join(sorted(words))
