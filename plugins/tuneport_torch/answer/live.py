"""Rows that come and go: each joins the batch under way as soon as its prompt is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import torch

from tuneport.errors import BackendError
from tuneport_torch.answer.batch import Batch, is_plain
from tuneport_torch.answer.room import cache_room, most_rows
from tuneport_torch.engine.memory import out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tuneport_torch.answer.row import Row

_READ_AT_ONCE = {"cpu": 256, "cuda": 8192, "mps": 1024}  # tokens of prompts: the others wait as long as that takes
_MOST_PASSED = 64  # rows that may go past one that does not fit yet
_SMALL = 64  # a row of at most this part of the room needs little


class Live:
    """Rows that are answered together. `add` and `drop` may be called between two steps.

    A step adds a token to every row whose prompt is read, and then reads a bounded part of the prompts that are new: a
    long prompt or a long answer delays a short one by its share of a step, not by its length.
    """

    def __init__(self, model: PreTrainedModel, pad_id: int) -> None:
        from transformers.cache_utils import DynamicCache

        self._model, self._pad_id = model, pad_id
        self._room, self._most_rows = int(cache_room(model)), most_rows(model)
        # A prompt is read in parts where the cache is nothing but keys and values.
        parts = is_plain(DynamicCache(config=model.config))
        self._at_once = _READ_AT_ONCE.get(model.device.type, 1024)
        self._columns = self._at_once if parts else None
        self._waiting: deque[Row] = deque()
        self._begun: list[Row] = []  # those in batches, also where memory ran out while they changed their batch
        self._reading: deque[Batch] = deque()
        self._batches: list[Batch] = []  # one, or several where rows cannot join
        self._passed = 0

    def add(self, row: Row) -> None:
        """Answer this one too, as soon as its keys and values fit."""
        self._waiting.append(row)

    @property
    def waiting(self) -> Collection[Row]:
        """The rows that are not begun."""
        return self._waiting

    def drop(self, rows: Sequence[Row]) -> None:
        """Forget rows that nobody waits for any more."""
        self._waiting = deque(row for row in self._waiting if row not in rows)
        self._begun = [row for row in self._begun if row not in rows]
        if not _fits(lambda: [batch.leave(rows) for batch in (*self._reading, *self._batches)]):
            self._retreat()
        self._tidy()

    def step(self) -> list[Row]:
        """Add a token to each row, and read on. Returns the rows that grew: none is in it twice."""
        grown: dict[Row, None] = {}
        # What a step that did not fit has computed is gone with its exception when the retreat begins.
        if not _fits(lambda: self._advance(grown)):
            self._fail_alone()
            self._retreat()
        # A row may have ended before memory ran out.
        grown |= dict.fromkeys(row for row in self._begun if row.over)
        self._begun = [row for row in self._begun if not row.over]
        self._tidy()
        return list(grown)

    def _advance(self, grown: dict[Row, None]) -> None:
        for batch in self._batches:
            grown |= dict.fromkeys(batch.step())
        self._tidy()
        grown |= dict.fromkeys(self._read())

    def _read(self) -> list[Row]:
        """Read the new prompts that are short, and a part of a long one; the long ones take turns."""
        turns = len(self._admit())
        grown = []
        for _ in range(turns):
            batch = self._reading[0]
            grown += batch.step(self._columns)
            self._reading.popleft()
            if batch.is_reading:
                self._reading.append(batch)
            else:
                self._start(batch)
        return grown

    def _admit(self) -> list[Batch]:
        """Make batches of the rows that wait and fit. Returns those that are read now, which are the first ones."""
        short: list[Row] = []
        long: list[Row] = []
        left: deque[Row] = deque()
        count, used = len(self._begun), sum(_room(batch.rows) for batch in (*self._reading, *self._batches))
        for row in self._waiting:
            brief = len(row.tokens) <= self._at_once
            fits = not count or (count < self._most_rows and used + row.most <= self._room_for(row))
            if left and self._passed >= _MOST_PASSED:
                fits = False
            if brief and short and (len(short) + 1) * max(len(one.tokens) for one in (*short, row)) > self._at_once:
                fits = False
            if not fits:
                left.append(row)
                continue
            self._passed = self._passed + 1 if left else 0
            (short if brief else long).append(row)
            count, used = count + 1, used + row.most
        self._waiting = left
        self._begun += [*short, *long]
        self._reading.extend(Batch(self._model, [row], self._pad_id) for row in long)
        now = [self._reading[0]] if self._reading else []
        if short:
            now.insert(0, Batch(self._model, short, self._pad_id))
            self._reading.appendleft(now[0])
        return now

    def _room_for(self, row: Row) -> int:
        """The tokens that may be in use with this row: an eighth of the room is for rows that need little."""
        return self._room if row.most <= self._room // _SMALL else self._room - self._room // 8

    def _start(self, batch: Batch) -> None:
        """Let rows whose prompts are read join those that are answered, unless the padding takes too much memory."""
        for other in self._batches:
            fits = _room([*batch.rows, *other.rows]) <= self._room
            if batch.rows and other.rows and fits and other.can_join(batch):
                other.join(batch)
                return
        self._batches.append(batch)

    def _fail_alone(self) -> None:
        """Fail a row that does not fit though no other one takes memory."""
        if len(self._begun) == 1 and not self._begun[0].over:
            self._begun[0].fail(
                BackendError(
                    "This answer does not fit into the device's memory.",
                    remedy="Shorten the conversation, or close what else uses the device.",
                )
            )

    def _retreat(self) -> None:
        """Begin again with half of the rows, because memory ran out. What they have said so far is read with their
        prompts.
        """
        again = [row for row in self._begun if not row.over]
        if again:
            self._room = min(self._room, _room(again) // 2)
        self._waiting.extendleft(reversed(again))
        self._begun = [row for row in self._begun if row.over]
        self._reading.clear()
        self._batches.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _tidy(self) -> None:
        self._batches = [batch for batch in self._batches if batch.rows]
        self._reading = deque(batch for batch in self._reading if batch.rows)


def _room(rows: Sequence[Row]) -> int:
    """The tokens that rows take in one batch once they are as long as they may get."""
    return len(rows) * max((row.most for row in rows), default=0)


def _fits(work: Callable[[], object]) -> bool:
    """Do it; False where memory ran out."""
    try:
        work()
    except Exception as error:
        if not out_of_memory(error):
            raise
        return False
    return True
