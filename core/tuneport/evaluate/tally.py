"""Counts for two models while they answer: scores, outcomes, labels, and the first rows of each outcome."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from dataclasses import dataclass
from statistics import fmean

from tuneport.dataset import Completion, Example, Message
from tuneport.evaluate.comparison import Comparison
from tuneport.evaluate.exchange import prompt_and_reference
from tuneport.evaluate.intervals import difference_interval, mean_interval, sign_test
from tuneport.evaluate.scores import Compared, Difference, LabelScore, Outcome, Side

TEXT_LIMIT = 4000
MOST_LABELS = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to one row. `cut` is whether the token limit truncated it."""

    text: str
    score: float
    cut: bool


class Tally:
    """Takes sixteen bytes per row, and keeps the texts of at most `keep` rows of each outcome."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.tuned, self.base = array("d"), array("d")
        self.tuned_cut = self.base_cut = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.examples: list[Compared] = []
        self.labels = _Labels()

    def add(self, example: Example, tuned: Answer, base: Answer | None) -> None:
        prompt, reference = prompt_and_reference(example)
        self.tuned.append(tuned.score)
        self.tuned_cut += tuned.cut
        if base is not None:
            self.base.append(base.score)
            self.base_cut += base.cut
        outcome = _outcome(tuned, base)
        self.outcomes[outcome] += 1
        self.labels.add(reference, tuned, base)
        if outcome not in ("both", "right") and self.outcomes[outcome] <= self.keep:
            self.examples.append(
                Compared(
                    row=len(self.tuned),
                    outcome=outcome,
                    prompt=truncate(prompt_text(example, prompt)),
                    reference=truncate(reference),
                    tuned=truncate(tuned.text),
                    tuned_score=tuned.score,
                    base=None if base is None else truncate(base.text),
                    base_score=None if base is None else base.score,
                )
            )

    def comparison(self, grader: str, limit: int, tuned: str, base: str | None) -> Comparison:
        rows = len(self.tuned)
        names: tuple[Outcome, ...] = (
            ("right", "wrong") if base is None else ("both", "only_tuned", "only_base", "neither")
        )
        notes = []
        if rows < 30:
            notes.append(f"{rows} rows are few, so the intervals are wide. Hold out more rows if you can.")
        if self.tuned_cut:
            notes.append(
                f"{self.tuned_cut:,} of {rows:,} answers of {tuned} were truncated at {limit} tokens. "
                "Set a higher max_tokens to let them finish."
            )
        return Comparison(
            grader=grader,
            rows=rows,
            max_tokens=limit,
            tuned=side(tuned, self.tuned, self.tuned_cut),
            base=None if base is None else side(base, self.base, self.base_cut),
            difference=None if base is None else difference(self.tuned, self.base),
            outcomes={name: self.outcomes[name] for name in names},
            labels=self.labels.scores(rows, with_base=base is not None),
            examples=tuple(self.examples),
            notes=tuple(notes),
        )


class _Labels:
    """Counts by reference, as long as the references look like labels: short single lines that are few and repeat."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] | None = {}  # label → rows, tuned right, base right
        self.mistakes: dict[str, Counter[str]] = {}

    def add(self, reference: str, tuned: Answer, base: Answer | None) -> None:
        if self.counts is None:
            return
        label = reference.strip()
        if not 0 < len(label) <= 80 or "\n" in label or (label not in self.counts and len(self.counts) == MOST_LABELS):
            self.counts = None
            return
        count = self.counts.setdefault(label, [0, 0, 0])
        count[0] += 1
        count[1] += tuned.score >= 1
        count[2] += base is not None and base.score >= 1
        if tuned.score < 1:
            self.mistakes.setdefault(label, Counter())[tuned.text.strip()[:80]] += 1

    def scores(self, rows: int, *, with_base: bool) -> tuple[LabelScore, ...]:
        if not self.counts or len(self.counts) < 2 or len(self.counts) > rows / 2:
            return ()
        found = []
        for label, (total, tuned, base) in self.counts.items():
            # only another label is a confusion; any other answer is noise here
            wrong = Counter({text: n for text, n in self.mistakes.get(label, Counter()).items() if text in self.counts})
            mistaken_for, mistakes = wrong.most_common(1)[0] if wrong else (None, 0)
            found.append(
                LabelScore(
                    label=label,
                    rows=total,
                    tuned_right=tuned,
                    base_right=base if with_base else None,
                    mistaken_for=mistaken_for,
                    mistakes=mistakes,
                )
            )
        return tuple(sorted(found, key=lambda one: (one.tuned_right / one.rows, one.label)))


def _outcome(tuned: Answer, base: Answer | None) -> Outcome:
    right = tuned.score >= 1
    if base is None:
        return "right" if right else "wrong"
    if base.score >= 1:
        return "both" if right else "only_base"
    return "only_tuned" if right else "neither"


def side(ref: str, scores: array[float], cut: int) -> Side:
    low, high = mean_interval(scores)
    right = sum(score >= 1 for score in scores)
    return Side(ref=ref, mean=fmean(scores), low=low, high=high, right=right, cut=cut)


def difference(tuned: array[float], base: array[float]) -> Difference:
    low, high = difference_interval(tuned, base)
    better = sum(t > b for t, b in zip(tuned, base, strict=True))
    worse = sum(t < b for t, b in zip(tuned, base, strict=True))
    return Difference(
        mean=fmean(tuned) - fmean(base),
        low=low,
        high=high,
        better=better,
        worse=worse,
        p_value=sign_test(better, worse),
    )


def prompt_text(example: Example, prompt: list[Message]) -> str:
    """The prompt as one text: a single user turn as it is, several turns with their roles."""
    if isinstance(example, Completion) or (len(prompt) == 1 and prompt[0].role == "user"):
        return _turn_text(prompt[0])
    return "\n".join(f"{turn.role}: {_turn_text(turn)}" for turn in prompt)


def _turn_text(turn: Message) -> str:
    parts = turn.content if isinstance(turn.content, list) else ()
    others = "".join(f" [{part.get('type')}]" for part in parts if part.get("type") != "text")
    calls = f" {json.dumps(turn.tool_calls, ensure_ascii=False)}" if turn.tool_calls else ""
    return f"{turn.text}{others}{calls}"


def truncate(text: str) -> str:
    if len(text) <= TEXT_LIMIT:
        return text
    return f"{text[:TEXT_LIMIT]}… ({len(text) - TEXT_LIMIT:,} more characters)"
