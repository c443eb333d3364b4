"""Repeated rows in limited memory: duplicates, near-duplicates, conflicting answers and leaks."""

from __future__ import annotations

import struct
import sys
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Literal

from tuneport.dataset.check.row_keys import EXACT, PROMPT, ROW_KEYS, TEXT
from tuneport.homefolder import home

RepeatKind = Literal["duplicate", "near-duplicate", "conflict", "leaked-row", "leaked-prompt"]

_HALVES = struct.Struct("=4sI")
_RECORD = ROW_KEYS + 8  # and its place
_MEMORY_ROWS = 1 << 18  # 8 MiB of records stay in memory; more go to disk by partition
_PARTITIONS = 64
_PASS_ROWS = 1 << 17
_AT = 3  # the fourth number of a record

Passes = Callable[[], Iterator["array[int]"]]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The row at `place` repeats the one at `first` (a place in the other dataset for the two kinds of leak)."""

    kind: RepeatKind
    place: int
    first: int


class Records:
    """The keys of every row and its place (any number below 2**64, such as its line); 32 bytes each, on disk when many.

    Files in home's cache are unlinked, so that even a killed process leaves none. Use it in a `with` statement.
    """

    def __init__(self, *, memory_rows: int = _MEMORY_ROWS, pass_rows: int = _PASS_ROWS) -> None:
        """`memory_rows` stay in memory before all go to disk; `pass_rows` are read from disk at a time."""
        self._memory_rows, self._pass_rows = memory_rows, pass_rows
        self.rows = 0
        self._batch = array("Q")  # four numbers a record
        self._file: BinaryIO | None = None
        self._extents: list[list[tuple[int, int]]] = [[] for _ in range(2 * _PARTITIONS)]

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the memory and the disk space."""
        self._batch = array("Q")
        if self._file is not None:
            self._file.close()

    def add(self, keys: bytes, place: int) -> None:
        """Add a row; `keys` are those of `row_keys`."""
        self.add_many(array("Q", keys), array("Q", (place,)))

    def add_many(self, keys: array[int], places: array[int]) -> None:
        """Add many rows: `keys` has three numbers a row."""
        records = array("Q", bytes(_RECORD * len(places)))
        for column in (PROMPT, TEXT, EXACT):
            records[column::4] = keys[column::3]
        records[_AT::4] = places
        self._batch += records
        self.rows += len(places)
        if len(self._batch) >= 4 * self._memory_rows:
            self.spill()

    def by_text(self) -> Iterator[Passes]:
        """Partitions that keep rows of the same text together; each can be read several times, in order."""
        return self._partitions(0)

    def by_prompt(self) -> Iterator[Passes]:
        """Partitions that keep rows of the same prompt together."""
        return self._partitions(_PARTITIONS)

    @property
    def spilled(self) -> bool:
        """Whether the records are on disk."""
        return self._file is not None

    def spill(self) -> None:
        """Move the records to disk. Two sets on disk have the same partitions."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=home("cache", "spill"))  # noqa: SIM115 - closed by close()
        self._file.seek(0, 2)
        parts = [bytearray() for _ in range(2 * _PARTITIONS)]
        batch = self._batch.tobytes()
        for start in range(0, len(batch), _RECORD):
            record = batch[start : start + _RECORD]
            parts[record[8] % _PARTITIONS] += record
            parts[_PARTITIONS + record[0] % _PARTITIONS] += record
        for extents, part in zip(self._extents, parts, strict=True):
            if part:
                extents.append((self._file.tell(), len(part)))
                self._file.write(part)
        self._batch = array("Q")

    def _partitions(self, base: int) -> Iterator[Passes]:
        if self._file is None:
            yield lambda: iter((self._batch,))
            return
        self.spill()
        for extents in self._extents[base : base + _PARTITIONS]:
            yield partial(self._passes, self._file, extents)

    def _passes(self, file: BinaryIO, extents: list[tuple[int, int]]) -> Iterator[array[int]]:
        # Never many records at once, even where every row has the same prompt and so the same partition.
        for offset, size in extents:
            for start in range(0, size, self._pass_rows * _RECORD):
                file.seek(offset + start)
                yield array("Q", file.read(min(self._pass_rows * _RECORD, size - start)))


def find_repeats(records: Records) -> Iterator[Repeat]:
    """Each row that repeats an earlier one: its content, its prompt and normalized text, or its prompt with another
    answer. The earlier one is always the first.

    A row can repeat one row and conflict with another. The order is that of the partitions.
    """
    any_prompt = False
    for passes in records.by_prompt():
        prompts = _repeated_keys(passes, PROMPT)
        any_prompt = any_prompt or bool(prompts)
        yield from _find_conflicts(passes, prompts)
    if any_prompt:  # otherwise no text can be repeated
        for passes in records.by_text():
            yield from _find_duplicates(passes)


def find_leaks(train: Records, held_out: Records) -> Iterator[Repeat]:
    """Each row of `train` whose text, or else whose prompt, is also in `held_out`."""
    if train.spilled or held_out.spilled:
        train.spill()
        held_out.spill()
    for ours, theirs in zip(train.by_text(), held_out.by_text(), strict=True):
        yield from _find_leaked_rows(ours, theirs)
    for ours, theirs in zip(train.by_prompt(), held_out.by_prompt(), strict=True):
        yield from _find_leaked_prompts(ours, theirs)


def _repeated_keys(passes: Passes, column: int) -> set[int]:
    """The keys of more than one record: most data has few, so only these need a loop in Python."""
    seen: set[int] = set()
    repeated: set[int] = set()
    for records in passes():
        keys = records[column::4]
        distinct = set(keys)
        if len(distinct) < len(keys):
            repeated.update(key for key, times in Counter(keys).items() if times > 1)
        repeated |= seen & distinct
        seen = seen | distinct if seen else distinct
    return repeated


def _select(passes: Passes, column: int, keys: set[int]) -> Iterator[array[int]]:
    """The records whose key is in `keys`, in order."""
    if not keys:
        return
    for records in passes():
        for index, key in enumerate(records[column::4]):
            if key in keys:
                yield records[4 * index : 4 * index + 4]


def _find_duplicates(passes: Passes) -> Iterator[Repeat]:
    first_of_text: dict[tuple[int, int, int], int] = {}
    first_of_content: dict[tuple[int, int, int], int] = {}
    for prompt, text, exact, place in _select(passes, TEXT, _repeated_keys(passes, TEXT)):
        first = first_of_content.setdefault((prompt, text, exact), place)
        if first != place:
            yield Repeat("duplicate", place, first)
            continue
        _, thought = _HALVES.unpack(exact.to_bytes(8, sys.byteorder))
        first = first_of_text.setdefault((prompt, text, thought), place)
        if first != place:
            yield Repeat("near-duplicate", place, first)


def _find_conflicts(passes: Passes, prompts: set[int]) -> Iterator[Repeat]:
    first_answer: dict[int, tuple[int, int]] = {}
    for prompt, text, _, place in _select(passes, PROMPT, prompts):
        first_text, first = first_answer.setdefault(prompt, (text, place))
        if text != first_text:
            yield Repeat("conflict", place, first)


def _find_leaked_rows(ours: Passes, theirs: Passes) -> Iterator[Repeat]:
    shared = _common_keys(ours, theirs, TEXT)
    places: dict[int, int] = {}
    for _, text, _, place in _select(theirs, TEXT, shared):
        places.setdefault(text, place)
    for _, text, _, place in _select(ours, TEXT, shared):
        yield Repeat("leaked-row", place, places[text])


def _find_leaked_prompts(ours: Passes, theirs: Passes) -> Iterator[Repeat]:
    shared = _common_keys(ours, theirs, PROMPT)
    places: dict[int, int] = {}
    texts: set[int] = set()  # rows that are shared completely are leaks of the other kind
    for prompt, text, _, place in _select(theirs, PROMPT, shared):
        places.setdefault(prompt, place)
        texts.add(text)
    for prompt, text, _, place in _select(ours, PROMPT, shared):
        if text not in texts:
            yield Repeat("leaked-prompt", place, places[prompt])


def _common_keys(ours: Passes, theirs: Passes, column: int) -> set[int]:
    wanted: set[int] = set()
    for records in theirs():
        wanted.update(records[column::4])
    found: set[int] = set()
    for records in ours():
        found.update(wanted.intersection(records[column::4]))
    return found
