"""The parts of a comparison, as plain values: scores, differences, and rows to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["both", "only_tuned", "only_base", "neither", "right", "wrong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One model's scores: the mean with its 95% interval, the rows that score 1, and the answers cut at the token
    limit.
    """

    ref: str
    mean: float
    low: float
    high: float
    right: int
    cut: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The mean of tuned minus base over the rows, with its 95% interval; the numbers of rows in which the tuned model
    scores higher and lower; and the p-value of that imbalance (exact sign test, which is McNemar's exact test where
    every score is 0 or 1).
    """

    mean: float
    low: float
    high: float
    better: int
    worse: int
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A row that at least one model got wrong. `row` counts from 1. Texts are truncated at 4,000 characters and say
    so.
    """

    row: int
    outcome: Outcome
    prompt: str
    reference: str
    tuned: str
    tuned_score: float
    base: str | None = None
    base_score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """A row on which the tuned model and a recorded model score differently. `row` counts from 1. Texts are truncated
    as in `Compared`.
    """

    row: int
    prompt: str
    reference: str
    tuned: str
    tuned_score: float
    recorded: str
    recorded_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A model whose answers were recorded, such as a vendor's old model, compared with the tuned model on the rows that
    both have answered. `difference` is tuned minus recorded. `examples` are the first rows whose scores differ.
    """

    rows: int
    side: Side
    tuned: Side
    difference: Difference
    examples: tuple[Differing, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore:
    """One label of a classification: its rows, how many each model gets right, and the tuned model's most frequent
    mistake.
    """

    label: str
    rows: int
    tuned_right: int
    base_right: int | None = None
    mistaken_for: str | None = None
    mistakes: int = 0
