"""A tuned model beside its base, on rows that training never saw."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from statistics import fmean
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, Self

import msgspec

from tuneport.dataset.example import Completion, Conversation, Example, Message, Preference
from tuneport.errors import DataError
from tuneport.evaluate import graders
from tuneport.evaluate.exchange import answer_text, prompt_and_reference
from tuneport.evaluate.intervals import difference_interval, mean_interval, sign_test

if TYPE_CHECKING:
    from tuneport.model import Model, Reply

Outcome = Literal["both", "only_tuned", "only_base", "neither", "right", "wrong"]
Progress = Callable[[int, int, str], None]

CHUNK_ROWS = 64
TEXT_LIMIT = 4000
MOST_LABELS = 200


class Examples(Protocol):
    """Rows that can be counted and read more than once: a Dataset, or a list of examples."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Example]: ...


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
class LabelScore:
    """One label of a classification: its rows, how many each model has right, the tuned model's usual mistake."""

    label: str
    rows: int
    tuned_right: int
    base_right: int | None = None
    mistaken_for: str | None = None
    mistakes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a comparison found. `outcomes` counts rows: both, only_tuned, only_base, neither (without a base model:
    right, wrong). `examples` are the first rows of each outcome that is not simply right. `labels` is empty where the
    references are not a small set of labels.
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

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The comparison that `to_dict` wrote."""
        return msgspec.convert(raw, cls)

    def __str__(self) -> str:
        from tuneport.evaluate.text import comparison_text

        return comparison_text(self)


def compare_models(
    tuned: Model,
    base: Model | None,
    holdout: Examples,
    grader: str | graders.Grade | graders.Grader = "exact",
    *,
    max_tokens: int | None = None,
    keep: int = 50,
    progress: Progress | None = None,
) -> Comparison:
    """Let both models answer every row, greedily, and grade the answers.

    `max_tokens` bounds an answer; by default there is room for the longest reference and half as much again. At most
    `keep` rows of each outcome are kept with their texts, so memory is bounded whatever the size of `holdout`.
    `progress` gets (rows answered, rows in all, "base" or "tuned"). The base model answers first and is closed before
    the tuned one starts: only one of them needs to be in memory. Raises DataError where there is nothing to compare.
    """
    judge = graders.grader(grader)
    if not len(holdout):
        raise DataError(
            "There are no rows to compare on.",
            remedy="Set rows aside before training (data.holdout: 0.1), or name a file of other rows.",
        )
    limit = max_tokens or answer_room(holdout)
    tally = _Tally(keep)
    with tempfile.TemporaryFile() as spool:
        if base is not None:
            for _, answer in _graded(base, holdout, judge, limit, "base", progress):
                spool.write(json.dumps(asdict(answer)).encode() + b"\n")
            if base is not tuned:
                base.close()
            spool.seek(0)
        for example, answer in _graded(tuned, holdout, judge, limit, "tuned", progress):
            tally.add(example, answer, _next_answer(spool) if base is not None else None)
    return tally.comparison(judge.name, limit, str(tuned.ref), str(base.ref) if base is not None else None)


def answer_room(examples: Iterable[Example]) -> int:
    """Tokens enough for the longest reference and half as much again, from 32 to 1024: counted as one token for every
    two bytes, where common tokenizers need one for three or four.
    """
    longest = max(len(prompt_and_reference(one)[1].encode("utf-8", "replace")) for one in examples)
    return max(32, min(1024, longest // 2 + 16))


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    score: float
    cut: bool


def _next_answer(spool: IO[bytes]) -> _Answer:
    return _Answer(**json.loads(spool.readline()))


def _graded(
    model: Model, holdout: Examples, judge: graders.Grader, limit: int, side: str, progress: Progress | None
) -> Iterator[tuple[Example, _Answer]]:
    rows, done, total = iter(holdout), 0, len(holdout)
    while chunk := list(islice(rows, CHUNK_ROWS)):
        for example, reply in zip(chunk, _replies(model, chunk, limit), strict=True):
            text = answer_text(reply)
            yield example, _Answer(text, judge(example, text), reply.finish_reason == "length")
        done += len(chunk)
        if progress is not None:
            progress(done, total, side)


def _replies(model: Model, chunk: list[Example], limit: int) -> Iterator[Reply]:
    """The replies to a chunk, in order: rows that are asked with the same options go to the model together."""
    together: dict[str, list[int]] = {}
    options: dict[str, dict[str, Any]] = {}
    for place, example in enumerate(chunk):
        wanted: dict[str, Any] = {}
        if isinstance(example, Completion) and model.can_continue:
            wanted["raw"] = True
        elif not isinstance(example, Completion) and example.tools:
            wanted["tools"] = example.tools
        key = json.dumps(wanted, sort_keys=True)
        options[key] = wanted
        together.setdefault(key, []).append(place)
    replies: dict[int, Reply] = {}
    for key, places in together.items():
        prompts = [prompt_and_reference(chunk[place])[0] for place in places]
        answered = model.reply_many(prompts, max_tokens=limit, temperature=0.0, **options[key])
        replies.update(zip(places, answered, strict=True))
    return (replies[place] for place in range(len(chunk)))


class _Tally:
    """What is counted while the answers come."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.tuned, self.base = array("d"), array("d")
        self.tuned_cut = self.base_cut = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.examples: list[Compared] = []
        self.labels = _Labels()

    def add(self, example: Example, tuned: _Answer, base: _Answer | None) -> None:
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
                    prompt=_cut(_shown(example, prompt)),
                    reference=_cut(reference),
                    tuned=_cut(tuned.text),
                    tuned_score=tuned.score,
                    base=None if base is None else _cut(base.text),
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
            notes.append(f"{rows} rows say little: mind the intervals, and set more rows aside if you can.")
        if self.tuned_cut:
            notes.append(
                f"{self.tuned_cut:,} of {rows:,} answers of the tuned model were cut at {limit} tokens; "
                "a higher max_tokens lets them end."
            )
        return Comparison(
            grader=grader,
            rows=rows,
            max_tokens=limit,
            tuned=_side(tuned, self.tuned, self.tuned_cut),
            base=None if base is None else _side(base, self.base, self.base_cut),
            difference=None if base is None else _difference(self.tuned, self.base),
            outcomes={name: self.outcomes[name] for name in names},
            labels=self.labels.scores(rows, with_base=base is not None),
            examples=tuple(self.examples),
            notes=tuple(notes),
        )


class _Labels:
    """Counts by reference, as long as the references look like labels: short, single lines, few, and repeated."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] | None = {}  # label → rows, tuned right, base right
        self.mistakes: dict[str, Counter[str]] = {}

    def add(self, reference: str, tuned: _Answer, base: _Answer | None) -> None:
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
            # only another label is a confusion; anything else that a model says is noise here
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


def _outcome(tuned: _Answer, base: _Answer | None) -> Outcome:
    right = tuned.score >= 1
    if base is None:
        return "right" if right else "wrong"
    if base.score >= 1:
        return "both" if right else "only_base"
    return "only_tuned" if right else "neither"


def _side(ref: str, scores: array[float], cut: int) -> Side:
    low, high = mean_interval(scores)
    right = sum(score >= 1 for score in scores)
    return Side(ref=ref, mean=fmean(scores), low=low, high=high, right=right, cut=cut)


def _difference(tuned: array[float], base: array[float]) -> Difference:
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


def _shown(example: Conversation | Completion | Preference, prompt: list[Message]) -> str:
    """The prompt as one text: a lone user turn as it is, several with their roles."""
    if isinstance(example, Completion) or (len(prompt) == 1 and prompt[0].role == "user"):
        return _said(prompt[0])
    return "\n".join(f"{turn.role}: {_said(turn)}" for turn in prompt)


def _said(turn: Message) -> str:
    parts = turn.content if isinstance(turn.content, list) else ()
    others = "".join(f" [{part.get('type')}]" for part in parts if part.get("type") != "text")
    calls = f" {json.dumps(turn.tool_calls, ensure_ascii=False)}" if turn.tool_calls else ""
    return f"{turn.text}{others}{calls}"


def _cut(text: str) -> str:
    if len(text) <= TEXT_LIMIT:
        return text
    return f"{text[:TEXT_LIMIT]}… ({len(text) - TEXT_LIMIT:,} more characters)"
