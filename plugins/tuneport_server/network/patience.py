"""How slowly a client may send: one rule for heads and bodies."""

from __future__ import annotations


def patience(received: int, grace: float, rate: int) -> float:
    """How many seconds a sender may have been waited for in all: `grace`, and one more for every `rate` bytes of the
    `received` ones. So silence, and a byte now and then, end in the same way.
    """
    return grace + received / rate


def too_slow(received: int, taken: float, grace: float, rate: int) -> bool:
    """Whether a sender of so many bytes in so many seconds is too slow."""
    return taken > patience(received, grace, rate)
