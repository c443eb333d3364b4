"""Which row goes where: a function of its content and a seed, so that what says the same never stands on both sides."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Sequence

from tuneport.errors import UsageError

_WHOLE = 1 << 64


def assign(keys: Sequence[int], parts: Sequence[float], seed: int) -> bytes:
    """For each row the part it goes to: 0 for what is left (training), 1 and on for each of `parts`, fractions of all.

    A row's key (of its normalised text) and the seed make a number between 0 and 1; a part takes those in its range.
    So a row stays where it was when others are added, and equal texts stay together. Where that leaves a part empty,
    as it may with few rows, the text with the smallest number in the largest part goes there.
    """
    for part in parts:
        if not 0 < part < 1:
            raise UsageError(f"A split of {part:g} is not between 0 and 1.", remedy="Write a fraction, such as 0.1.")
    if sum(parts) >= 1:
        raise UsageError("The splits leave nothing to train on.", remedy="Let them add up to less than 1.")
    bounds = [round(_WHOLE * sum(parts[: number + 1])) for number in range(len(parts))]
    numbers = {key: draw(key, seed) for key in set(keys)} if len(keys) < 1 << 20 else _Drawn(seed)
    chosen = bytearray(_part(numbers[key], bounds) for key in keys)
    _fill(chosen, keys, numbers, len(parts))
    return bytes(chosen)


class _Drawn(dict[int, int]):
    """Draws each number when it is asked for: a table of them all would be too large."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __missing__(self, key: int) -> int:
        return draw(key, self._seed)


def draw(key: int, seed: int, purpose: bytes = b"") -> int:
    """A number below 2**64 for a row's key, another for each seed and purpose."""
    text = b"%b%d:%d" % (purpose, seed, key)
    return int.from_bytes(hashlib.sha256(text, usedforsecurity=False).digest()[:8], "big")


def _part(number: int, bounds: Sequence[int]) -> int:
    for part, bound in enumerate(bounds, 1):
        if number < bound:
            return part
    return 0


def _fill(chosen: bytearray, keys: Sequence[int], numbers: dict[int, int], parts: int) -> None:
    """Give each empty part, training included, one text of the part that has most."""
    for part in range(parts, -1, -1):
        if part in chosen:
            continue
        texts: dict[int, set[int]] = {other: set() for other in range(parts + 1)}
        for key, place in zip(keys, chosen, strict=True):
            texts[place].add(key)
        most = max(texts.values(), key=len)
        if len(most) < 2:
            raise UsageError("There are too few different rows to split.", remedy="Add rows, or split less.")
        moved = min(most, key=lambda key: numbers[key])
        for row, key in enumerate(keys):
            if key == moved:
                chosen[row] = part


def choose(keys: Iterable[int], rows: int, seed: int) -> list[int]:
    """The places of `rows` rows: those with the smallest numbers, which are not those that `assign` goes by.

    By the same ones a sample would fall to one part, when it is split with the seed that it was drawn with.
    """
    drawn = ((draw(key, seed, b"sample:"), place) for place, key in enumerate(keys))
    return [place for _, place in heapq.nsmallest(rows, drawn)]
