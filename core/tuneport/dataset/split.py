"""Splits rows by their content and a seed, so that rows with the same text are always in the same part."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Sequence

from tuneport.errors import UsageError

_ALL = 1 << 64


def assign_parts(keys: Sequence[int], parts: Sequence[float], seed: int) -> bytes:
    """The part of each row: 0 for the rest (training), and from 1 for each of `parts`, which are fractions of all rows.

    A row's key (of its normalized text) and the seed give a number between 0 and 1, and each part has a range of these.
    So a row stays in its part when others are added, and equal texts stay together. If a part is empty, as it may be
    with few rows, it gets the text with the smallest number of the largest part.
    """
    for part in parts:
        if not 0 < part < 1:
            raise UsageError(f"A split of {part:g} is not between 0 and 1.", remedy="Write a fraction, such as 0.1.")
    if sum(parts) >= 1:
        raise UsageError("The splits leave nothing to train on.", remedy="Make them add up to less than 1.")
    bounds = [round(_ALL * sum(parts[: number + 1])) for number in range(len(parts))]
    numbers = {key: draw(key, seed) for key in set(keys)} if len(keys) < 1 << 20 else _Draws(seed)
    chosen = bytearray(_part(numbers[key], bounds) for key in keys)
    _fill(chosen, keys, numbers, len(parts))
    return bytes(chosen)


class _Draws(dict[int, int]):
    """Draws each number when it is needed, since a table of all numbers would be too large."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __missing__(self, key: int) -> int:
        return draw(key, self._seed)


def draw(key: int, seed: int, purpose: bytes = b"") -> int:
    """A number below 2**64 for a row's key, different for each seed and purpose."""
    text = b"%b%d:%d" % (purpose, seed, key)
    return int.from_bytes(hashlib.sha256(text, usedforsecurity=False).digest()[:8], "big")


def _part(number: int, bounds: Sequence[int]) -> int:
    for part, bound in enumerate(bounds, 1):
        if number < bound:
            return part
    return 0


def _fill(chosen: bytearray, keys: Sequence[int], numbers: dict[int, int], parts: int) -> None:
    """Give each empty part, training included, one text of the part with the most texts."""
    for part in range(parts, -1, -1):
        if part in chosen:
            continue
        texts: dict[int, set[int]] = {other: set() for other in range(parts + 1)}
        for key, place in zip(keys, chosen, strict=True):
            texts[place].add(key)
        most = max(texts.values(), key=len)
        if len(most) < 2:
            raise UsageError("There are too few different rows to split.", remedy="Add rows, or use fewer parts.")
        moved = min(most, key=lambda key: numbers[key])
        for row, key in enumerate(keys):
            if key == moved:
                chosen[row] = part


def choose_rows(keys: Iterable[int], rows: int, seed: int) -> list[int]:
    """The places of `rows` rows: those with the smallest numbers, which differ from those of `assign_parts`.

    With the same numbers, all of a sample would be in one part when it is split with its own seed.
    """
    drawn = ((draw(key, seed, b"sample:"), place) for place, key in enumerate(keys))
    return [place for _, place in heapq.nsmallest(rows, drawn)]
