"""Renders a job's snapshot of the data into training rows: token ids and weights, or pairs of them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from tuneport.errors import DataError
from tuneport.plugin import Conversation, Preference
from tuneport_torch.text.lengths import Lengths
from tuneport_torch.text.pairs import render_pairs
from tuneport_torch.text.refusals import Unrenderable
from tuneport_torch.text.render import Rendered, Renderer, Style
from tuneport_torch.text.thinking import Mode
from tuneport_torch.text.thinking_mode import count_thinking, mode_from_counts, set_default_mode

if TYPE_CHECKING:
    from tuneport.plugin import Example
    from tuneport_torch.protocols import RowSource
    from tuneport_torch.text.codec import Codec

_ROWS_AT_ONCE = 256
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A rendered example, 8 bytes per token."""

    ids: array[int]
    weights: array[float]


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """A rendered preference pair: the prompt with the chosen answer, and with the rejected one."""

    chosen: TrainingRow
    rejected: TrainingRow


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """The data of a job: `TrainingRow`, or `TrainingPair` where answers are compared.

    `tokens` counts an epoch, including prompts; `longest` counts the longest row. `system` is the system prompt of all
    conversations, if they share one. `style` is plain if there are no conversations.
    """

    train: Sequence[Any]
    validation: Sequence[Any]
    tokens: int
    longest: int
    system: str | None
    style: Style


def read_rows(source: RowSource, request: Mapping[str, Any], codec: Codec, limit: int | None) -> TrainingData:
    """All rows of a job, none longer than `limit` tokens.

    Raises DataError for rows that cannot be trained on, and for long ones if the policy is to stop.
    """
    prompts = _SystemPrompts()
    try:
        parts = _read_all(source, request, codec, limit, prompts)
    finally:
        codec.close()
    if not parts["train"]:
        raise DataError("No row is left to train on.", remedy="Name a file that has rows.")
    shaped = {part: [row[0] if len(row) == 1 else TrainingPair(*row) for row in rows] for part, rows in parts.items()}
    return TrainingData(
        train=shaped["train"],
        validation=shaped.get("validation", []),
        tokens=sum(len(row.ids) for rows in parts["train"] for row in rows),
        longest=max(len(row.ids) for rows in parts["train"] for row in rows),
        system=prompts.system,
        style="chat" if prompts.conversations else "plain",
    )


_Read = dict[str, list[tuple["TrainingRow", ...]]]


def _read_all(
    source: RowSource, request: Mapping[str, Any], codec: Codec, limit: int | None, prompts: _SystemPrompts
) -> _Read:
    """The rows of each part, all prompted with thinking or all without. The template's default is set accordingly."""
    counts = count_thinking(codec, chain.from_iterable(_examples(source, request).values()))
    mode = mode_from_counts(counts)
    renderer = Renderer(codec, mode)
    parts = _read(source, request, renderer, limit, prompts)
    codec.stop_ids += renderer.new_stop_ids
    if mode == Mode.ON:
        message = f"{counts[False]} of {counts.total()} rows have no thinking: they are trained with an empty block."
        source.emit("log", message, without_thinking=counts[False])
    set_default_mode(codec, counts)
    return parts


def _examples(source: RowSource, request: Mapping[str, Any]) -> dict[str, Iterator[Example]]:
    """The examples of each part."""
    return {part: source.examples(part) for part in request["data"]}


def _read(
    source: RowSource, request: Mapping[str, Any], renderer: Renderer, limit: int | None, prompts: _SystemPrompts
) -> _Read:
    """The rows of each part."""
    options = request["options"]
    render = _render_answers if options["method"] == "sft" else _render_pairs
    from_setting = request.get("settings", {}).get("max_tokens", "auto") != "auto"
    parts: _Read = {}
    for part, examples in _examples(source, request).items():
        reading = _Part(source, part, limit, options["too_long"], from_setting=from_setting)
        parts[part] = reading.rows(prompts.watch(examples), lambda some: render(renderer, some))
    return parts


_Arms = tuple[Rendered, ...]
"""One answer to train on, or a chosen and a rejected one."""


def _render_answers(renderer: Renderer, examples: Sequence[Example]) -> list[_Arms | Unrenderable]:
    return [one if isinstance(one, Unrenderable) else (one,) for one in renderer.try_render(examples)]


def _render_pairs(renderer: Renderer, examples: Sequence[Example]) -> list[_Arms | Unrenderable]:
    return list(render_pairs(renderer, examples))


class _Part:
    """Reads one part of the data, and counts what happens to its rows."""

    def __init__(self, source: RowSource, part: str, limit: int | None, policy: str, *, from_setting: bool) -> None:
        self._source, self._part, self._limit, self._policy, self._from_setting = (
            source,
            part,
            limit,
            policy,
            from_setting,
        )
        self._longest = self._longer = 0
        self._refused: list[str] = []
        self._left_out = self._names_left_out = self._dropped = self._cut = self._read = 0

    def rows(
        self, examples: Iterator[Example], render: Callable[[Sequence[Example]], list[_Arms | Unrenderable]]
    ) -> list[tuple[TrainingRow, ...]]:
        found: list[tuple[TrainingRow, ...]] = []
        while batch := list(islice(examples, _ROWS_AT_ONCE)):
            for number, one in enumerate(render(batch), start=self._read + 1):
                if isinstance(one, Unrenderable):
                    self._refused.append(f"row {number}: {one.code}: {one.message}")
                elif arms := self._within_limit(number, one):
                    found.append(arms)
                    self._left_out += sum(arm.turns_left_out for arm in one)
                    self._names_left_out += one[0].names_left_out
            self._read += len(batch)
            self._source.note(f"rendered {self._read} rows of {self._part}")
        self._report(len(found))
        return found

    def _within_limit(self, number: int, arms: _Arms) -> tuple[TrainingRow, ...] | None:
        """The arms as rows, cut if that is the policy; None for those that are left out or refused."""
        rows = tuple(TrainingRow(array("i", arm.ids), array("f", arm.weights)) for arm in arms)
        longest = max(len(row.ids) for row in rows)
        if self._limit is None or longest <= self._limit:
            return rows
        self._longer += 1
        self._longest = max(self._longest, longest)
        if self._policy == "stop":
            limit = "backends.torch.max_tokens is" if self._from_setting else "the model's limit is"
            self._refused.append(f"row {number}: too-long: {longest} tokens, {limit} {self._limit}")
            return None
        rows = tuple(TrainingRow(row.ids[: self._limit], row.weights[: self._limit]) for row in rows)
        if self._policy == "drop" or not all(any(row.weights) for row in rows):
            self._dropped += 1
            return None
        self._cut += 1
        return rows

    @property
    def _lengths(self) -> Lengths:
        return Lengths(
            rows=self._read,
            longer=self._longer,
            lost=self._dropped,
            longest=self._longest,
            limit=self._limit,
            policy=self._policy,
            from_setting=self._from_setting,
        )

    def _report(self, used: int) -> None:
        part, read = self._part, self._read
        if self._refused:
            shown = "".join(f"\n  {line}" for line in self._refused[:_SHOWN])
            refusal = self._lengths.refusal(part) if self._longer == len(self._refused) else None
            raise DataError(
                f"{len(self._refused)} of {read} rows ({part}) cannot be trained on:{shown}",
                remedy=(refusal.remedy if refusal else None)
                or "See all of them, with remedies: tuneport check FILE --for torch:MODEL",
            )
        if refusal := self._lengths.refusal(part):
            raise refusal
        if left_out := self._left_out:
            message = f"{part}: {left_out} assistant turns are context only: the model's template rewrites them later."
            self._source.emit("log", message, level="warning", turns_left_out=left_out)
        if nameless := self._names_left_out:
            message = f"{part}: the model's chat template leaves out the names of {nameless} messages."
            self._source.emit("log", message, level="warning", names_left_out=nameless)
        if self._dropped or self._cut:
            message = f"{part}: {read} rows read, {used} used, {self._dropped} too long and dropped, "
            message += f"{self._cut} cut to {self._limit} tokens."
            counts = {"read": read, "used": used, "dropped": self._dropped, "truncated": self._cut}
            self._source.emit("log", message, level="warning", **counts)


class _SystemPrompts:
    """Collects the system prompts of conversations while they are read."""

    def __init__(self) -> None:
        self.conversations = 0
        self._systems: set[str | None] = set()

    def watch(self, examples: Iterable[Example]) -> Iterator[Example]:
        for example in examples:
            if isinstance(example, Conversation | Preference):
                self.conversations += 1
                messages = example.messages if isinstance(example, Conversation) else example.prompt
                if len(self._systems) < 2:
                    first = next(iter(messages), None)
                    has_system = first is not None and first.role in ("system", "developer")
                    self._systems.add(first.text if first is not None and has_system else None)
            yield example

    @property
    def system(self) -> str | None:
        """The system prompt that all of them share, if there is one."""
        return next(iter(self._systems)) if len(self._systems) == 1 else None
