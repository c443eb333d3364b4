"""Conversations that join and leave the answers of a model, step by step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from tuneport import AnswerPiece, GenerateOptions, LiveBatch, Message, Reply, TuneportError
from tuneport_torch.answer.live import Live
from tuneport_torch.answer.row import Row, tell

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tuneport_torch.text.tokens import Text

_LOOK_SECONDS = 0.5  # for a prompt, where nothing else is to do: then the caller may see whether its client has gone

Prepare = Callable[[Sequence[Message], GenerateOptions], Row]


class JoiningBatch(LiveBatch):
    """The batch of one model. `lock` is the model's, taken for a step at a time.

    Templates, tokenizers and schemas may take seconds, so other threads prepare the rows: one those with a schema or
    tools, another the rest.
    """

    def __init__(self, model: PreTrainedModel, text: Text, prepare: Prepare, lock: threading.RLock) -> None:
        self._live = Live(model, text.pad_id)
        self._prepare, self._lock = prepare, lock
        self._bound, self._free = (ThreadPoolExecutor(1, thread_name_prefix="prepare") for _ in range(2))
        self._preparing: dict[int, Future[Row]] = {}
        self._rows: dict[int, Row] = {}

    def add(self, number: int, prompt: Sequence[Message], options: GenerateOptions) -> None:
        """Prepare the row; it joins at the step after that. What is wrong with it is told by a step."""
        lane = self._bound if options.schema is not None or options.tools else self._free
        self._preparing[number] = lane.submit(self._prepare, prompt, options)

    @property
    def waiting(self) -> list[int]:
        """Those that are being prepared, and those whose keys and values do not fit yet."""
        waiting = self._live.waiting
        return [*self._preparing, *(number for number, row in self._rows.items() if row in waiting)]

    def drop(self, numbers: Sequence[int]) -> None:
        """Forget these conversations."""
        for number in numbers:
            if (future := self._preparing.pop(number, None)) is not None:
                future.cancel()
        self._live.drop([row for number in numbers if (row := self._rows.pop(number, None)) is not None])

    def step(self) -> list[tuple[int, AnswerPiece | Reply | TuneportError]]:
        """Let those join that are prepared, and add a token to each answer."""
        told: list[tuple[int, AnswerPiece | Reply | TuneportError]] = []
        told += self._joined()
        if not self._rows:
            return told
        with self._lock:
            grown = self._live.step()
        numbers = {row: number for number, row in self._rows.items()}
        for row in grown:
            told += [(numbers[row], one) for one in tell(row)]
            if row.over:
                del self._rows[numbers[row]]
        return told

    def close(self) -> None:
        """Forget all of them."""
        for lane in (self._bound, self._free):
            lane.shutdown(cancel_futures=True)
        self._live.drop(list(self._rows.values()))
        self._preparing.clear()
        self._rows.clear()

    def _joined(self) -> list[tuple[int, TuneportError]]:
        """Take in what is prepared; the errors of what cannot be answered."""
        if self._preparing and not self._rows:
            wait(self._preparing.values(), _LOOK_SECONDS, return_when=FIRST_COMPLETED)
        failed: list[tuple[int, TuneportError]] = []
        for number in [number for number, future in self._preparing.items() if future.done()]:
            try:
                row = self._preparing.pop(number).result()
            except TuneportError as error:
                failed.append((number, error))
                continue
            self._rows[number] = row
            self._live.add(row)
        return failed
