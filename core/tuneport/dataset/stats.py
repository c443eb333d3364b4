"""A dataset in numbers: shapes, roles, turns, lengths and labels, in one pass and little memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

from tuneport.dataset.example import Completion, Conversation, Example
from tuneport.dataset.rules import DataRules
from tuneport.doors import public

_BATCH = 256
_BINS = 12
_LABELS_AT_MOST = 1000  # distinct answers; data with more is not a classification, so counting stops
_LABEL_CHARACTERS = 200
_ROWS_PER_LABEL = 5  # on average, for repeated answers to be labels


@dataclass(frozen=True, slots=True)
class Bin:
    """The number of values from `low` to `high`, both included."""

    low: int
    high: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """An integer quantity over the rows. Median and 90th percentile are exact below 1,000, else to 0.5%."""

    count: int
    total: int
    min: int
    median: int
    p90: int
    max: int
    bins: tuple[Bin, ...]

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return self.total / self.count

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `histogram` has `[low, high, count]` from small to large."""
        return {
            "total": self.total,
            "min": self.min,
            "median": self.median,
            "mean": round(self.mean, 2),
            "p90": self.p90,
            "max": self.max,
            "histogram": [[each.low, each.high, each.count] for each in self.bins],
        }


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """A dataset in numbers.

    `shapes` counts rows by the type of their example, `roles` counts messages. `turns` (messages per conversation),
    `characters` (of text per row) and `tokens` (training length, where rules can count it) are distributions, or None
    where there is nothing to count. `labels` counts rows by final answer, most frequent first, where the answers repeat
    enough to be labels.
    """

    rows: int
    shapes: Mapping[str, int]
    roles: Mapping[str, int]
    turns: Distribution | None = None
    characters: Distribution | None = None
    tokens: Distribution | None = None
    labels: Mapping[str, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with every key present."""
        return {
            "rows": self.rows,
            "shapes": dict(self.shapes),
            "roles": dict(self.roles),
            "turns": self.turns.to_dict() if self.turns else None,
            "characters": self.characters.to_dict() if self.characters else None,
            "tokens": self.tokens.to_dict() if self.tokens else None,
            "labels": dict(self.labels) if self.labels else None,
        }


def collect_stats(examples: Iterable[Example], rules: DataRules | None = None) -> Stats:
    """The stats of `examples`, read once; tokens are counted where the rules have `count_tokens`."""
    tally = Tally()
    count = rules.count_tokens if rules else None
    source = iter(examples)
    while batch := list(islice(source, _BATCH)):
        for example in batch:
            tally.add(example)
        if count is not None:
            tally.tokens.add_all(count(batch))
    return tally.stats()


@dataclass(slots=True)
class Lengths:
    """Counts of integers; from 1,000 on they are rounded to three digits, so that the table stays small."""

    counts: Counter[int] = field(default_factory=Counter)
    total: int = 0
    smallest: int | None = None
    largest: int = 0

    def add(self, value: int, times: int = 1) -> None:
        """Count a value (0 or more) `times` times."""
        self.total += value * times
        if value > self.largest:
            self.largest = value
        if self.smallest is None or value < self.smallest:
            self.smallest = value
        self.counts[value if value < 1000 else _round(value)] += times

    def add_all(self, values: Iterable[int]) -> None:
        """Count each value."""
        values = list(values)
        if not values:
            return
        self.total += sum(values)
        self.largest = max(self.largest, *values)
        self.smallest = min(values) if self.smallest is None else min(self.smallest, *values)
        self.counts.update([value if value < 1000 else _round(value) for value in values])

    def merge(self, other: Lengths) -> None:
        """Add the counts of `other`."""
        self.counts.update(other.counts)
        self.total += other.total
        self.largest = max(self.largest, other.largest)
        if other.smallest is not None:
            self.smallest = other.smallest if self.smallest is None else min(self.smallest, other.smallest)

    def distribution(self) -> Distribution | None:
        """The figures, or None where nothing was counted."""
        if self.smallest is None:
            return None
        count = self.counts.total()
        return Distribution(
            count=count,
            total=self.total,
            min=self.smallest,
            median=self._quantile(count * 0.5),
            p90=self._quantile(count * 0.9),
            max=self.largest,
            bins=tuple(self._bins(self.smallest, self.largest)),
        )

    def _quantile(self, rank: float) -> int:
        assert self.smallest is not None
        seen = 0
        for value, times in sorted(self.counts.items()):
            seen += times
            if seen >= rank:
                return min(max(value, self.smallest), self.largest)
        return self.largest

    def _bins(self, low: int, high: int) -> Iterator[Bin]:
        """Up to 12 bins: equally wide, or growing by a fixed factor where `high` is over 50 times `low`."""
        edges = _edges(low, high)
        totals = [0] * (len(edges) - 1)
        index = 0
        for value, times in sorted(self.counts.items()):
            while index < len(totals) - 1 and value >= edges[index + 1]:
                index += 1
            totals[index] += times
        for start, end, times in zip(edges, edges[1:], totals, strict=False):
            yield Bin(start, end - 1, times)


@lru_cache(1 << 14)
def _round(value: int) -> int:
    scale: int = 10 ** (len(str(value)) - 3)
    return round(value / scale) * scale


def _edges(low: int, high: int) -> list[int]:
    """Increasing edges from `low` to `high` + 1."""
    span = high + 1 - low
    bins = min(_BINS, span)
    if high <= 50 * max(low, 1):
        inner = [low + span * index // bins for index in range(1, bins)]
    else:
        base = max(low, 1)
        inner = [round(base * ((high + 1) / base) ** (index / bins)) for index in range(1, bins)]
    return [low, *sorted({edge for edge in inner if low < edge <= high}), high + 1]


@dataclass(slots=True)
class Tally:
    """Counts examples one by one. Tallies can be merged, so that parts of a file can be counted separately."""

    shapes: Counter[str] = field(default_factory=Counter)
    roles: Counter[str] = field(default_factory=Counter)
    turns: Lengths = field(default_factory=Lengths)
    characters: Lengths = field(default_factory=Lengths)
    tokens: Lengths = field(default_factory=Lengths)
    answers: Counter[str] | None = field(default_factory=Counter)  # None once they are too many to be labels

    def add(self, example: Example) -> None:
        """Count one example."""
        if isinstance(example, Conversation):
            self.shapes["conversation"] += 1
            self.turns.add(len(example.messages))
            characters = 0
            roles = self.roles
            for message in example.messages:
                roles[message.role] += 1
                content = message.content
                characters += len(content) if type(content) is str else len(message.text)
            self.characters.add(characters)
        elif isinstance(example, Completion):
            self.shapes["completion"] += 1
            self.characters.add(len(example.prompt) + len(example.completion))
        else:
            self.shapes["preference"] += 1
            messages = (*example.prompt, *example.chosen, *example.rejected)
            self.roles.update(message.role for message in messages)
            self.characters.add(sum(len(message.text) for message in messages))
        if self.answers is not None:
            self.count_answers((final_answer(example),))

    def merge(self, other: Tally) -> None:
        """Add the counts of `other`."""
        self.shapes.update(other.shapes)
        self.roles.update(other.roles)
        self.turns.merge(other.turns)
        self.characters.merge(other.characters)
        self.tokens.merge(other.tokens)
        if self.answers is not None and other.answers is not None:
            self.answers.update(other.answers)
            if len(self.answers) <= _LABELS_AT_MOST:
                return
        self.answers = None

    def stats(self) -> Stats:
        """The figures of all examples counted so far."""
        return Stats(
            rows=self.shapes.total(),
            shapes=dict(self.shapes.most_common()),
            roles=dict(self.roles.most_common()),
            turns=self.turns.distribution(),
            characters=self.characters.distribution(),
            tokens=self.tokens.distribution(),
            labels=self.labels(),
        )

    def labels(self) -> dict[str, int] | None:
        """Rows per label, most frequent first; None where the answers are not labels."""
        if not self.answers or self.answers.total() < _ROWS_PER_LABEL * len(self.answers):
            return None
        return dict(sorted(self.answers.items(), key=lambda item: (-item[1], item[0])))

    def count_answers(self, answers: Sequence[str | None]) -> None:
        """Count final answers, as long as they may be labels."""
        if self.answers is None:
            return
        short = [answer for answer in answers if answer is not None and len(answer) <= _LABEL_CHARACTERS]
        if len(short) == len(answers):
            self.answers.update(short)
        if len(short) < len(answers) or len(self.answers) > _LABELS_AT_MOST:
            self.answers = None


def final_answer(example: Example) -> str | None:
    """The last text that is trained on, such as the label of a classification; None for preferences."""
    if isinstance(example, Completion):
        return example.completion
    if isinstance(example, Conversation) and example.messages:
        last = example.messages[-1]
        if last.role == "assistant" and not last.tool_calls:
            return last.content if type(last.content) is str else last.text
    return None
