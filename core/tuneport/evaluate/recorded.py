"""Counts for a recorded model compared with the tuned one, on the rows that both have answered."""

from __future__ import annotations

from array import array

from tuneport.dataset import Example
from tuneport.evaluate.exchange import prompt_and_reference
from tuneport.evaluate.scores import Differing, Recorded
from tuneport.evaluate.tally import Answer, difference, prompt_text, side, truncate


class RecordTally:
    """Takes sixteen bytes per row, and keeps the texts of at most `keep` rows on which the scores differ."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._tuned, self._recorded = array("d"), array("d")
        self._tuned_cut = self._recorded_cut = 0
        self._differing: list[Differing] = []

    def add(self, row: int, example: Example, tuned: Answer, recorded: Answer) -> None:
        """Count a row that both have answered. `row` is its number among all rows, from 1."""
        self._tuned.append(tuned.score)
        self._recorded.append(recorded.score)
        self._tuned_cut += tuned.cut
        self._recorded_cut += recorded.cut
        if tuned.score != recorded.score and len(self._differing) < self._keep:
            prompt, reference = prompt_and_reference(example)
            self._differing.append(
                Differing(
                    row=row,
                    prompt=truncate(prompt_text(example, prompt)),
                    reference=truncate(reference),
                    tuned=truncate(tuned.text),
                    tuned_score=tuned.score,
                    recorded=truncate(recorded.text),
                    recorded_score=recorded.score,
                )
            )

    def result(self, model: str, tuned: str) -> Recorded | None:
        """The counts, or None if both have answered no row."""
        if not self._tuned:
            return None
        return Recorded(
            rows=len(self._tuned),
            side=side(model, self._recorded, self._recorded_cut),
            tuned=side(tuned, self._tuned, self._tuned_cut),
            difference=difference(self._tuned, self._recorded),
            examples=tuple(self._differing),
        )
