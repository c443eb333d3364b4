"""Makes a service's values safe to store: no secrets, no lone surrogates, no numbers or nesting that break readers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

DEEPEST = 64
"""How deeply lists and objects may be nested."""
_LARGEST = 2**63 - 1
_SURROGATE = re.compile("[\ud800-\udfff]")


def replace_surrogates(text: str) -> str:
    """The text with a replacement character for each lone surrogate, which no encoding accepts."""
    return _SURROGATE.sub("\ufffd", text)


def clean(value: Any, redact: Callable[[str], str], depth: int = DEEPEST) -> Any:
    """A JSON value without secrets. Numbers that readers refuse (NaN, infinity, more than 63 bits) become null.

    Raises ValueError if the value is nested more deeply than DEEPEST.
    """
    if isinstance(value, str):
        return redact(replace_surrogates(value))
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
    return {redact(replace_surrogates(key)): clean(one, redact, depth - 1) for key, one in value.items()}
