"""Continuous batching: each row joins the running batch as soon as its prompt is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import torch

from tuneport.errors import BackendError
from tuneport_torch.answer.batch import Batch, is_plain
from tuneport_torch.answer.capacity import cache_capacity, max_rows
from tuneport_torch.engine.memory import out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tuneport_torch.answer.row import AnswerRow

_READ_AT_ONCE = {"cpu": 256, "cuda": 8192, "mps": 1024}  # tokens of prompts; other rows wait for that long
_MOST_OVERTAKEN = 64  # rows that may overtake one that does not fit yet
_SMALL = 64  # a row that needs at most 1/64 of the capacity is small


class ContinuousBatch:
    """Rows that are answered together. `add` and `drop` may be called between two steps.

    A step adds a token to every row whose prompt is read, and then reads a limited part of the new prompts: a long
    prompt or answer delays a short one by its share of a step, not by its length.
    """

    def __init__(self, model: PreTrainedModel, pad_id: int) -> None:
        from transformers.cache_utils import DynamicCache

        self._model, self._pad_id = model, pad_id
        self._capacity, self._max_rows = int(cache_capacity(model)), max_rows(model)
        # A prompt can be read in parts if the cache has only keys and values.
        parts = is_plain(DynamicCache(config=model.config))
        self._at_once = _READ_AT_ONCE.get(model.device.type, 1024)
        self._columns = self._at_once if parts else None
        self._waiting: deque[AnswerRow] = deque()
        self._started: list[AnswerRow] = []  # rows in batches, also if memory ran out while they changed batches
        self._reading: deque[Batch] = deque()
        self._batches: list[Batch] = []  # one, or several if rows cannot be merged
        self._overtaken = 0

    def add(self, row: AnswerRow) -> None:
        """Answer this row as soon as its keys and values fit."""
        self._waiting.append(row)

    @property
    def waiting(self) -> Collection[AnswerRow]:
        """The rows that have not started."""
        return self._waiting

    def drop(self, rows: Sequence[AnswerRow]) -> None:
        """Drop rows that are not needed anymore."""
        self._waiting = deque(row for row in self._waiting if row not in rows)
        self._started = [row for row in self._started if row not in rows]
        if not _fits(lambda: [batch.leave(rows) for batch in (*self._reading, *self._batches)]):
            self._restart_with_half()
        self._tidy()

    def step(self) -> list[AnswerRow]:
        """Add a token to each row, and continue to read prompts. Returns the rows that grew, without duplicates."""
        grown: dict[AnswerRow, None] = {}
        # The tensors of a step that did not fit are freed with its exception before the retreat.
        if not _fits(lambda: self._advance(grown)):
            self._fail_alone()
            self._restart_with_half()
        # A row may have finished before memory ran out.
        grown |= dict.fromkeys(row for row in self._started if row.is_over)
        self._started = [row for row in self._started if not row.is_over]
        self._tidy()
        return list(grown)

    def _advance(self, grown: dict[AnswerRow, None]) -> None:
        for batch in self._batches:
            grown |= dict.fromkeys(batch.step())
        self._tidy()
        grown |= dict.fromkeys(self._read())

    def _read(self) -> list[AnswerRow]:
        """Read the new short prompts, and a part of a long one; long ones alternate."""
        turns = len(self._admit())
        grown = []
        for _ in range(turns):
            batch = self._reading[0]
            grown += batch.step(self._columns)
            self._reading.popleft()
            if batch.is_reading:
                self._reading.append(batch)
            else:
                self._merge(batch)
        return grown

    def _admit(self) -> list[Batch]:
        """Make batches of the waiting rows that fit. Returns those to read now, which are the first ones."""
        short: list[AnswerRow] = []
        long: list[AnswerRow] = []
        left: deque[AnswerRow] = deque()
        count, used = len(self._started), sum(_count_reserved(batch.rows) for batch in (*self._reading, *self._batches))
        for row in self._waiting:
            is_short = len(row.tokens) <= self._at_once
            fits = not count or (count < self._max_rows and used + row.most <= self._capacity_for(row))
            if left and self._overtaken >= _MOST_OVERTAKEN:
                fits = False
            if is_short and short and (len(short) + 1) * max(len(one.tokens) for one in (*short, row)) > self._at_once:
                fits = False
            if not fits:
                left.append(row)
                continue
            self._overtaken = self._overtaken + 1 if left else 0
            (short if is_short else long).append(row)
            count, used = count + 1, used + row.most
        self._waiting = left
        self._started += [*short, *long]
        self._reading.extend(Batch(self._model, [row], self._pad_id) for row in long)
        now = [self._reading[0]] if self._reading else []
        if short:
            now.insert(0, Batch(self._model, short, self._pad_id))
            self._reading.appendleft(now[0])
        return now

    def _capacity_for(self, row: AnswerRow) -> int:
        """The tokens that may be in use with this row. An eighth of the capacity is reserved for small rows."""
        return self._capacity if row.most <= self._capacity // _SMALL else self._capacity - self._capacity // 8

    def _merge(self, batch: Batch) -> None:
        """Merge rows whose prompts are read into a running batch, unless the padding takes too much memory."""
        for other in self._batches:
            fits = _count_reserved([*batch.rows, *other.rows]) <= self._capacity
            if batch.rows and other.rows and fits and other.can_join(batch):
                other.join(batch)
                return
        self._batches.append(batch)

    def _fail_alone(self) -> None:
        """Fail a row that does not fit although no other row uses memory."""
        if len(self._started) == 1 and not self._started[0].is_over:
            self._started[0].fail(
                BackendError(
                    "This answer does not fit into the device's memory.",
                    remedy="Shorten the conversation, or close other programs that use the device.",
                )
            )

    def _restart_with_half(self) -> None:
        """Start again with half of the rows after memory ran out. Answers so far are read with their prompts."""
        again = [row for row in self._started if not row.is_over]
        if again:
            self._capacity = min(self._capacity, _count_reserved(again) // 2)
        self._waiting.extendleft(reversed(again))
        self._started = [row for row in self._started if row.is_over]
        self._reading.clear()
        self._batches.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _tidy(self) -> None:
        self._batches = [batch for batch in self._batches if batch.rows]
        self._reading = deque(batch for batch in self._reading if batch.rows)


def _count_reserved(rows: Sequence[AnswerRow]) -> int:
    """The tokens that rows need in one batch at their maximum length."""
    return len(rows) * max((row.most for row in rows), default=0)


def _fits(work: Callable[[], object]) -> bool:
    """Do the work; False if memory ran out."""
    try:
        work()
    except Exception as error:
        if not out_of_memory(error):
            raise
        return False
    return True
