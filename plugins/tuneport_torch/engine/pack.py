"""Which rows are in which step and micro-batch: pure functions of lengths, seed, epoch and position."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol


class WeightedTokens(Protocol):
    """Token ids, and the weight of each in the loss (0: context only)."""

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def weights(self) -> Sequence[float]: ...


def epoch_steps(lengths: Sequence[int], tokens_per_step: int, seed: int, epoch: int) -> list[list[int]]:
    """The rows (by index) of each step of an epoch: all rows once, shuffled, in steps of about equally many tokens.

    There are min(ceil(tokens / tokens_per_step), rows) steps, none empty. In a step rows are sorted by length, longest
    first, so that similar lengths are together and what takes most memory is tried first.
    """
    order = list(range(len(lengths)))
    random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311 - not for secrets
    count = max(1, min(math.ceil(sum(lengths) / tokens_per_step), len(order)))
    steps = _cut(order, [lengths[row] for row in order], count)
    return [sorted(step, key=lambda row: (-lengths[row], row)) for step in steps]


def micro_batches(rows: Sequence[int], lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Split the rows of a step, in order, into micro-batches of at most `tokens_per_batch` tokens, or one longer row.

    They are about equally large, because a small one would take as long as a large one.
    """
    total = sum(lengths[row] for row in rows)
    enough = total / math.ceil(total / tokens_per_batch)
    batches: list[list[int]] = []
    filled = math.inf
    for row in rows:
        if filled >= enough or filled + lengths[row] > tokens_per_batch:
            batches.append([])
            filled = 0
        batches[-1].append(row)
        filled += lengths[row]
    return batches


def padded_batches(rows: Sequence[int], lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Like `micro_batches`, but every row counts as many tokens as the longest of its batch, which comes first."""
    batches: list[list[int]] = []
    for row in rows:
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > tokens_per_batch:
            batches.append([])
        batches[-1].append(row)
    return batches


def _cut(order: list[int], sizes: list[int], count: int) -> list[list[int]]:
    """Cut `order` into `count` consecutive parts of about equal size, none empty."""
    total = sum(sizes)
    parts: list[list[int]] = [[] for _ in range(count)]
    part = -1
    for position, (row, end, size) in enumerate(zip(order, accumulate(sizes), sizes, strict=True)):
        natural = int((end - size / 2) * count / total)
        must = count - (len(order) - position)  # leave one row for each empty part
        part = min(max(natural, must, part), part + 1)
        parts[part].append(row)
    return parts
