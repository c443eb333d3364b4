"""A service's values made safe to keep: no secrets, no half characters, no number or nesting that breaks a reader."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

DEEPEST = 64
"""How many lists and objects may stand in each other."""
_LARGEST = 2**63 - 1
_HALF = re.compile("[\ud800-\udfff]")


def unpaired(text: str) -> str:
    """The text with a replacement character for each surrogate that no encoding takes."""
    return _HALF.sub("\ufffd", text)


def clean(value: Any, redact: Callable[[str], str], depth: int = DEEPEST) -> Any:
    """A JSON value without secrets; numbers that no reader takes (NaN, infinity, more than 63 bits) become null.

    Raises ValueError for one that is nested more deeply than DEEPEST.
    """
    if isinstance(value, str):
        return redact(unpaired(value))
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, list | dict):
        return value
    if not depth:
        raise ValueError("it is nested too deeply")
    if isinstance(value, list):
        return [clean(one, redact, depth - 1) for one in value]
    return {redact(unpaired(key)): clean(one, redact, depth - 1) for key, one in value.items()}
