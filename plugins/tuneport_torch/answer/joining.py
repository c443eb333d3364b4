"""Conversations that join and leave the answers of a model, step by step."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneport.errors import TuneportError
from tuneport.plugin import AnswerPiece, GenerateOptions, LiveBatch, Message, Reply
from tuneport_torch.answer.live import Live
from tuneport_torch.answer.preparing import Prepare, Preparing
from tuneport_torch.answer.row import Row, tell

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tuneport_torch.text.render import Renderer

_LOOK_SECONDS = 0.5  # for a prompt, where nothing else is to do: then the caller may see whether its client has gone


class JoiningBatch(LiveBatch):
    """The batch of one model. `lock` is the model's, taken for a step at a time."""

    def __init__(self, model: PreTrainedModel, renderer: Renderer, prepare: Prepare, lock: threading.RLock) -> None:
        self._live = Live(model, renderer.codec.pad_id)
        self._lock = lock
        self._preparing = Preparing(prepare, renderer)
        self._rows: dict[int, Row] = {}

    def add(self, number: int, prompt: Sequence[Message], options: GenerateOptions) -> None:
        """Prepare the row; it joins at the step after that. What is wrong with it is told by a step."""
        self._preparing.add(number, prompt, options)

    @property
    def waiting(self) -> list[int]:
        """Those that are being prepared, and those whose keys and values do not fit yet."""
        waiting = self._live.waiting
        return [*self._preparing.futures, *(number for number, row in self._rows.items() if row in waiting)]

    def drop(self, numbers: Sequence[int]) -> None:
        """Forget these conversations."""
        for number in numbers:
            self._preparing.drop(number)
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
        self._preparing.close()
        self._live.drop(list(self._rows.values()))
        self._rows.clear()

    def _joined(self) -> list[tuple[int, TuneportError]]:
        """Take in what is prepared; the errors of what cannot be answered."""
        if self._preparing.futures and not self._rows:
            self._preparing.wait(_LOOK_SECONDS)
        failed: list[tuple[int, TuneportError]] = []
        for number, made in self._preparing.ready():
            if isinstance(made, Row):
                self._rows[number] = made
                self._live.add(made)
            else:
                failed.append((number, made))
        return failed
