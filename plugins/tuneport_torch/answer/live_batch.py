"""Conversations that join and leave a model's running batch between two steps."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneport.errors import TuneportError
from tuneport.plugin import AnswerPiece, GenerateOptions, LiveBatch, Message, Reply
from tuneport_torch.answer.continuous import ContinuousBatch
from tuneport_torch.answer.preparer import Prepare, RowPreparer
from tuneport_torch.answer.row import AnswerRow, collect_output

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tuneport_torch.text.render import Renderer

_WAIT_SECONDS = 0.5  # for a prompt if nothing else is to do; then the caller can check whether its client is gone


class TorchLiveBatch(LiveBatch):
    """The running batch of one model. `lock` is the model's, held for one step at a time."""

    def __init__(self, model: PreTrainedModel, renderer: Renderer, prepare: Prepare, lock: threading.RLock) -> None:
        self._batch = ContinuousBatch(model, renderer.codec.pad_id)
        self._lock = lock
        self._preparer = RowPreparer(prepare, renderer)
        self._rows: dict[int, AnswerRow] = {}

    def add(self, number: int, prompt: Sequence[Message], options: GenerateOptions) -> None:
        """Prepare the row, which then joins at the next step. A step reports its errors."""
        self._preparer.add(number, prompt, options)

    @property
    def waiting(self) -> list[int]:
        """Rows that are being prepared, and those whose keys and values do not fit yet."""
        waiting = self._batch.waiting
        return [*self._preparer.futures, *(number for number, row in self._rows.items() if row in waiting)]

    def drop(self, numbers: Sequence[int]) -> None:
        """Drop these conversations."""
        for number in numbers:
            self._preparer.drop(number)
        self._batch.drop([row for number in numbers if (row := self._rows.pop(number, None)) is not None])

    def step(self) -> list[tuple[int, AnswerPiece | Reply | TuneportError]]:
        """Let prepared rows join, and add a token to each answer."""
        outputs: list[tuple[int, AnswerPiece | Reply | TuneportError]] = []
        outputs += self._add_prepared()
        if not self._rows:
            return outputs
        with self._lock:
            grown = self._batch.step()
        numbers = {row: number for number, row in self._rows.items()}
        for row in grown:
            outputs += [(numbers[row], one) for one in collect_output(row)]
            if row.is_over:
                del self._rows[numbers[row]]
        return outputs

    def close(self) -> None:
        """Drop all conversations."""
        self._preparer.close()
        self._batch.drop(list(self._rows.values()))
        self._rows.clear()

    def _add_prepared(self) -> list[tuple[int, TuneportError]]:
        """Add the prepared rows. Returns the errors of those that cannot be answered."""
        if self._preparer.futures and not self._rows:
            self._preparer.wait(_WAIT_SECONDS)
        failed: list[tuple[int, TuneportError]] = []
        for number, row in self._preparer.take_ready():
            if isinstance(row, AnswerRow):
                self._rows[number] = row
                self._batch.add(row)
            else:
                failed.append((number, row))
        return failed
