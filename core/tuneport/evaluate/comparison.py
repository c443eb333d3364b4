"""The result of a comparison, and how it prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import msgspec

from tuneport.doors import public
from tuneport.evaluate.scores import Compared, Difference, LabelScore, Outcome, Recorded, Side
from tuneport.evaluate.text import (
    OUTCOMES,
    difference_line,
    differing_lines,
    differing_rows,
    recorded_lines,
    row_lines,
    side_line,
)
from tuneport.html import card, grid
from tuneport.printable import one_line
from tuneport.units import many

_MOST_ROWS = 6  # printed as text
_MOST_DIFFERING = 4
_MOST_NOTEBOOK_ROWS = 10
_ORDER: tuple[Outcome, ...] = ("only_base", "wrong", "neither", "only_tuned")
"""What got worse, then what is still wrong, then what got better."""


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A tuned model compared with its base on the same rows. `print` shows it as text; a notebook shows tables.

    `outcomes` counts rows: both, only_tuned, only_base, neither (without a base model: right, wrong). `examples` are
    the first rows of each outcome in which a model is wrong. `labels` is empty unless the references are a small set of
    labels. `trained_on` is the number of rows that the tuned model was trained on, or None if that is unknown. `misfit`
    says why the grader does not fit the answers, if it clearly does not. `recorded` compares a recorded model, if one
    was given and has answered some of the rows. Scores and shares are between 0 and 1.
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
    def rows_text(self) -> str:
        """The number of rows in words, such as `75 holdout rows`. Rows that were trained on are not called holdout."""
        return many(self.rows, "row" if self.trained_on else "holdout row")

    @property
    def warning(self) -> str | None:
        """What a reader must know before the scores: rows were trained on, or the grader does not fit."""
        return " ".join(filter(None, (self._trained_on_warning, self.misfit))) or None

    @property
    def _trained_on_warning(self) -> str | None:
        if not self.trained_on:
            return None
        many_rows = f"{self.trained_on:,} of these {self.rows:,} rows were" if self.rows > 1 else "this row was"
        return f"{many_rows} trained on, so the scores do not show how the model does on unseen rows."

    @property
    def has_partial_scores(self) -> bool:
        """Whether some scores changed between right and wrong, so that counts of right rows miss the change."""
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
            f"<Comparison {self.tuned.ref}: {before}{self.tuned.mean:.1%}, {self.grader}, {self.rows_text}>"
        )

    def __str__(self) -> str:
        """The scores with their 95% intervals, the counts, and the first rows that a model got wrong."""
        lines = [f"{self.rows_text}, graded by {one_line(self.grader)}; 95% intervals"]
        lines += [f"warning: {one_line(self.warning)}"] if self.warning else []
        lines += ["", *self._score_lines(), "", f"  {' · '.join(self._counts())}"]
        lines += [f"  note: {one_line(note)}" for note in self.notes]
        picked = [row for name in _ORDER for row in [one for one in self.examples if one.outcome == name][:2]]
        for row in picked[:_MOST_ROWS]:
            lines += ["", *row_lines(row)]
        for differing in differing_rows(self.recorded)[:_MOST_DIFFERING] if self.recorded else ():
            lines += ["", *differing_lines(differing)]
        return "\n".join(lines)

    def _score_lines(self) -> list[str]:
        lines = [side_line("base", self.base, self.rows)] if self.base else []
        lines.append(side_line("tuned" if self.base else "model", self.tuned, self.rows))
        lines += [difference_line(self.difference)] if self.difference else []
        return lines + (recorded_lines(self.recorded, self.rows) if self.recorded else [])

    def _counts(self) -> list[str]:
        counts = [f"{OUTCOMES[name]} {count:,}" for name, count in self.outcomes.items()]
        if self.has_partial_scores and self.difference:
            counts += [f"better {self.difference.better:,}", f"worse {self.difference.worse:,}"]
        return counts

    def _repr_html_(self) -> str:
        """For a notebook: the scores with their intervals, then rows that a model got wrong."""
        sides = [one for one in (self.base, self.tuned) if one is not None]
        scores = [
            [one.ref, f"{one.mean:.1%}", f"{one.low:.1%} to {one.high:.1%}", f"{one.right:,}", f"{one.cut:,}"]
            for one in sides
        ]
        rows = [
            [one.row, one.prompt, one.reference, one.base or "", one.tuned]
            for one in self.examples[:_MOST_NOTEBOOK_ROWS]
        ]
        facts = [("warning", self.warning or ""), *(("note", note) for note in self.notes)]
        tables = [grid(["model", "score", "95% interval", "right", "cut"], scores)]
        tables += [grid(["row", "prompt", "wanted", "base", "tuned"], rows)] if rows else []
        return card(repr(self).strip("<>"), facts, *tables)
