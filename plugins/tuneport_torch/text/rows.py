"""From a job's snapshot of the data to what its model reads: rows of token ids and weights, or pairs of such rows."""

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
from tuneport_torch.text.ways import count_ways, mode_of, settle

if TYPE_CHECKING:
    from tuneport.plugin import Example
    from tuneport_torch.protocols import RowSource
    from tuneport_torch.text.codec import Codec

_ROWS_AT_ONCE = 256
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Row:
    """A rendered example, 8 bytes a token."""

    ids: array[int]
    weights: array[float]


@dataclass(frozen=True, slots=True)
class Pair:
    """A rendered preference: the prompt with the better answer, and with the worse."""

    chosen: Row
    rejected: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What is trained on: all `Row` or, where answers are compared, all `Pair`. `tokens` are those of an epoch, prompts
    included; `longest` those of the longest row. `system` is the system prompt that all conversations share, if they
    do; `style` is plain where there are none.
    """

    train: Sequence[Any]
    validation: Sequence[Any]
    tokens: int
    longest: int
    system: str | None
    style: Style


def read_rows(source: RowSource, request: Mapping[str, Any], codec: Codec, limit: int | None) -> Rows:
    """All rows of a job, none longer than `limit` tokens.

    Raises DataError for those that cannot be trained on, or are too long without a policy.
    """
    openings = _Openings()
    try:
        parts = _settled(source, request, codec, limit, openings)
    finally:
        codec.close()
    if not parts["train"]:
        raise DataError("No row is left to train on.", remedy="Name a file that has rows.")
    shaped = {part: [row[0] if len(row) == 1 else Pair(*row) for row in rows] for part, rows in parts.items()}
    return Rows(
        train=shaped["train"],
        validation=shaped.get("validation", []),
        tokens=sum(len(row.ids) for rows in parts["train"] for row in rows),
        longest=max(len(row.ids) for rows in parts["train"] for row in rows),
        system=openings.system,
        style="chat" if openings.conversations else "plain",
    )


_Read = dict[str, list[tuple["Row", ...]]]


def _settled(
    source: RowSource, request: Mapping[str, Any], codec: Codec, limit: int | None, openings: _Openings
) -> _Read:
    """The rows of each part, all asked with thinking or all without; the template is settled so, for use as well."""
    ways = count_ways(codec, chain.from_iterable(_examples(source, request).values()))
    mode = mode_of(ways)
    renderer = Renderer(codec, mode)
    parts = _read(source, request, renderer, limit, openings)
    codec.stop_ids += renderer.new_stop_ids
    if mode == Mode.ON:
        told = f"{ways[False]} of {ways.total()} rows are without thinking: they are trained with an empty block."
        source.emit("log", told, without_thinking=ways[False])
    settle(codec, ways)
    return parts


def _examples(source: RowSource, request: Mapping[str, Any]) -> dict[str, Iterator[Example]]:
    """The examples of each part."""
    return {part: source.examples(part) for part in request["data"]}


def _read(
    source: RowSource, request: Mapping[str, Any], renderer: Renderer, limit: int | None, openings: _Openings
) -> _Read:
    """The rows of each part."""
    options = request["options"]
    render = _render_answers if options["method"] == "sft" else _render_pairs
    asked = request.get("settings", {}).get("max_tokens", "auto") != "auto"
    parts: _Read = {}
    for part, examples in _examples(source, request).items():
        reading = _Part(source, part, limit, options["too_long"], asked=asked)
        parts[part] = reading.rows(openings.noted(examples), lambda some: render(renderer, some))
    return parts


_Arms = tuple[Rendered, ...]
"""An answer to learn alone, or a chosen and a rejected one."""


def _render_answers(renderer: Renderer, examples: Sequence[Example]) -> list[_Arms | Unrenderable]:
    return [one if isinstance(one, Unrenderable) else (one,) for one in renderer.try_render(examples)]


def _render_pairs(renderer: Renderer, examples: Sequence[Example]) -> list[_Arms | Unrenderable]:
    return list(render_pairs(renderer, examples))


class _Part:
    """Reads one part of the data, and counts what becomes of its rows."""

    def __init__(self, source: RowSource, part: str, limit: int | None, policy: str, *, asked: bool) -> None:
        self._source, self._part, self._limit, self._policy, self._asked = source, part, limit, policy, asked
        self._longest = self._longer = 0
        self._wrong: list[str] = []
        self._left_out = self._names_left_out = self._dropped = self._cut = self._read = 0

    def rows(
        self, examples: Iterator[Example], render: Callable[[Sequence[Example]], list[_Arms | Unrenderable]]
    ) -> list[tuple[Row, ...]]:
        found: list[tuple[Row, ...]] = []
        while batch := list(islice(examples, _ROWS_AT_ONCE)):
            for number, one in enumerate(render(batch), start=self._read + 1):
                if isinstance(one, Unrenderable):
                    self._wrong.append(f"row {number}: {one.code}: {one.message}")
                elif arms := self._within_limit(number, one):
                    found.append(arms)
                    self._left_out += sum(arm.turns_left_out for arm in one)
                    self._names_left_out += one[0].names_left_out
            self._read += len(batch)
            self._source.note(f"rendered {self._read} rows of {self._part}")
        self._tell(len(found))
        return found

    def _within_limit(self, number: int, arms: _Arms) -> tuple[Row, ...] | None:
        """The arms as rows, cut where that is the policy; None for those that are left out or wrong."""
        rows = tuple(Row(array("i", arm.ids), array("f", arm.weights)) for arm in arms)
        longest = max(len(row.ids) for row in rows)
        if self._limit is None or longest <= self._limit:
            return rows
        self._longer += 1
        self._longest = max(self._longest, longest)
        if self._policy == "stop":
            of = "backends.torch.max_tokens is" if self._asked else "the model takes"
            self._wrong.append(f"row {number}: too-long: {longest} tokens, {of} {self._limit}")
            return None
        rows = tuple(Row(row.ids[: self._limit], row.weights[: self._limit]) for row in rows)
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
            asked=self._asked,
        )

    def _tell(self, used: int) -> None:
        part, read = self._part, self._read
        if self._wrong:
            shown = "".join(f"\n  {line}" for line in self._wrong[:_SHOWN])
            refusal = self._lengths.refusal(part) if self._longer == len(self._wrong) else None
            raise DataError(
                f"{len(self._wrong)} of {read} rows ({part}) cannot be trained on:{shown}",
                remedy=(refusal.remedy if refusal else None)
                or "See them all, with what to do: tuneport check FILE --for torch:MODEL",
            )
        if refusal := self._lengths.refusal(part):
            raise refusal
        if left_out := self._left_out:
            told = f"{part}: {left_out} assistant turns are context only: the model's template rewrites them later on."
            self._source.emit("log", told, level="warning", turns_left_out=left_out)
        if nameless := self._names_left_out:
            told = f"{part}: the model's chat template leaves out the names of {nameless} messages."
            self._source.emit("log", told, level="warning", names_left_out=nameless)
        if self._dropped or self._cut:
            told = f"{part}: {read} rows read, {used} used, {self._dropped} too long and dropped, "
            told += f"{self._cut} cut to {self._limit} tokens."
            counts = {"read": read, "used": used, "dropped": self._dropped, "truncated": self._cut}
            self._source.emit("log", told, level="warning", **counts)


class _Openings:
    """How conversations begin, noted while they pass by."""

    def __init__(self) -> None:
        self.conversations = 0
        self._systems: set[str | None] = set()

    def noted(self, examples: Iterable[Example]) -> Iterator[Example]:
        for example in examples:
            if isinstance(example, Conversation | Preference):
                self.conversations += 1
                messages = example.messages if isinstance(example, Conversation) else example.prompt
                if len(self._systems) < 2:
                    first = next(iter(messages), None)
                    opened = first is not None and first.role in ("system", "developer")
                    self._systems.add(first.text if first is not None and opened else None)
            yield example

    @property
    def system(self) -> str | None:
        """The system prompt of all of them, if there is one."""
        return next(iter(self._systems)) if len(self._systems) == 1 else None
