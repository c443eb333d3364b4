"""What a comparison found, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import msgspec

from tuneport.doors import public
from tuneport.printable import one_line

Outcome = Literal["both", "only_tuned", "only_base", "neither", "right", "wrong"]

_SHOWN = 10  # rows in a notebook


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """How one model did: mean score with 95% interval, rows that score 1, and answers cut at the limit of tokens."""

    ref: str
    mean: float
    low: float
    high: float
    right: int
    cut: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Mean of tuned minus base, row by row, with its 95% interval; in how many rows tuned scores better or worse; and
    the p-value of so uneven a count (exact sign test; McNemar's where every score is 0 or 1).
    """

    mean: float
    low: float
    high: float
    better: int
    worse: int
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A row that was not simply right: `row` counts from 1. Texts are cut at 4,000 characters, and say so."""

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
    """A row in which the tuned model and a recorded one score differently: `row` counts from 1, texts are cut as
    elsewhere.
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
    """A model whose answers were recorded, such as a vendor's old one, next to the tuned model on the rows that both
    have answered. `difference` is tuned minus recorded; `examples` are the first rows in which their scores differ.
    """

    rows: int
    side: Side
    tuned: Side
    difference: Difference
    examples: tuple[Differing, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore:
    """One label of a classification: its rows, how many each model has right, the tuned model's usual mistake."""

    label: str
    rows: int
    tuned_right: int
    base_right: int | None = None
    mistaken_for: str | None = None
    mistakes: int = 0


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a comparison found. `outcomes` counts rows: both, only_tuned, only_base, neither (without a base model:
    right, wrong). `examples` are the first rows of each outcome that is not simply right. `labels` is empty where the
    references are not a small set of labels. `trained_on` counts the rows that the tuned model was trained on; None
    where that is not known. `misfit` says why the grader does not fit the answers, where it clearly does not.
    `recorded` is the model of a record, where one was named and has answered some of the rows.
    """

    grader: str
    rows: int
    max_tokens: int
    tuned: Side
    base: Side | None
    difference: Difference | None
    outcomes: Mapping[Outcome, int]
    labels: tuple[LabelScore, ...] = ()
    examples: tuple[Compared, ...] = ()
    notes: tuple[str, ...] = ()
    trained_on: int | None = None
    misfit: str | None = None
    recorded: Recorded | None = None

    @property
    def rows_told(self) -> str:
        """The rows as a person says them, such as `75 holdout rows`; those that were trained on are no holdout."""
        kind = "" if self.trained_on else "holdout "
        return f"{self.rows:,} {kind}{'row' if self.rows == 1 else 'rows'}"

    @property
    def warning(self) -> str | None:
        """What is to be said before the scores: that rows were not held out, or that the grader does not fit."""
        return " ".join(filter(None, (self._seen, self.misfit))) or None

    @property
    def _seen(self) -> str | None:
        if not self.trained_on:
            return None
        many = f"{self.trained_on:,} of these {self.rows:,} rows were" if self.rows > 1 else "this row was"
        return f"{many} trained on: the scores do not tell how the model does on rows that it never saw."

    @property
    def graded(self) -> bool:
        """Whether rows changed by less than all: right and wrong do not tell the whole story then."""
        if self.difference is None:
            return False
        return self.difference.better + self.difference.worse > self.outcomes["only_tuned"] + self.outcomes["only_base"]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The comparison that `to_dict` wrote."""
        return msgspec.convert(raw, cls)

    def __repr__(self) -> str:
        before = f"{self.base.mean:.1%} -> " if self.base else ""
        return one_line(
            f"<Comparison {self.tuned.ref}: {before}{self.tuned.mean:.1%}, {self.grader}, {self.rows_told}>"
        )

    def _repr_html_(self) -> str:
        """For a notebook: the scores with their intervals, then rows that were not simply right."""
        from tuneport.cards import card, grid

        sides = [one for one in (self.base, self.tuned) if one is not None]
        scores = [
            [one.ref, f"{one.mean:.1%}", f"{one.low:.1%} to {one.high:.1%}", f"{one.right:,}", f"{one.cut:,}"]
            for one in sides
        ]
        rows = [[one.row, one.prompt, one.reference, one.base or "", one.tuned] for one in self.examples[:_SHOWN]]
        facts = [("warning", self.warning or ""), *(("note", note) for note in self.notes)]
        tables = [grid(["model", "score", "95% interval", "right", "cut"], scores)]
        tables += [grid(["row", "prompt", "wanted", "base", "tuned"], rows)] if rows else []
        return card(repr(self).strip("<>"), facts, *tables)

    def __str__(self) -> str:
        from tuneport.evaluate.text import comparison_text

        return comparison_text(self)
