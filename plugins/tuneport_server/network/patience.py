"""How slowly a client may send: one rule for request heads and bodies."""

from __future__ import annotations


def patience(received: int, grace: float, rate: int) -> float:
    """Return for how many seconds in total to wait for a sender: `grace`, plus one for every `rate` bytes of the
    `received` ones. So silence and a byte now and then end in the same way.
    """
    return grace + received / rate


def is_too_slow(received: int, taken: float, grace: float, rate: int) -> bool:
    """Is a sender of so many bytes in so many seconds too slow?"""
    return taken > patience(received, grace, rate)
