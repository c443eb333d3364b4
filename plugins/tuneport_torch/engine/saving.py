"""Checkpoints beside the training: what is in them is copied between two steps, and a thread waits for the disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tuneport.local import free_memory
from tuneport.plugin import size
from tuneport_torch.engine import state
from tuneport_torch.engine.checkpoint import Store, read_tensors
from tuneport_torch.engine.state import Progress

_Tensors = Mapping[str, Mapping[str, Tensor]]
_SECONDS_BETWEEN = 60.0
_SHARE_OF_TIME = 1 / 20  # that saving takes at most, the thread's part included
_SHARE_OF_MEMORY = 1 / 2  # of what is free, that a copy may take


@dataclass(frozen=True, slots=True)
class _Writing:
    """A checkpoint on its way to the disk; `best_loss` is its validation loss where it is the best so far."""

    step: int
    best_loss: float | None
    began: float
    path: Future[Path]


class Saver:
    """Keeps the checkpoints of one training, at most one on its way at a time.

    The tensors are copied bit for bit into memory that is kept for the next copy: fresh memory costs ten times as much
    as the copying. Where a copy does not fit into `spare` bytes (None: half of the memory that is free when the first
    is made), the training waits for the disk instead. What came of a checkpoint is told in the training's own thread,
    by `settle`.
    """

    def __init__(
        self,
        store: Store,
        progress: Progress,
        trained: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        facts: Mapping[str, Any],
        *,
        every: int | Literal["auto"],
        emit: Callable[..., None],
        spare: int | None = None,
    ) -> None:
        self.store, self.progress, self.facts, self.emit = store, progress, facts, emit
        self.trained, self.optimizer, self.every = trained, optimizer, every
        self._saved_step, self._saved_at, self._seconds = progress.step, time.monotonic(), 0.0
        self._kept_best = (progress.best_step, progress.best_loss)
        self._writing: _Writing | None = None
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._room: dict[tuple[str, str], Tensor] = {}
        self._spare = spare
        self._copies: bool | None = None  # decided at the first

    def due(self) -> bool:
        """Whether `every` asks for a checkpoint now. When they are saved changes nothing in what is computed."""
        if self.every != "auto":
            return self.progress.step % self.every == 0
        waited = time.monotonic() - self._saved_at
        return self._writing is None and waited > max(_SECONDS_BETWEEN, self._seconds / _SHARE_OF_TIME)

    def save(self) -> None:
        """Begin to keep a checkpoint of the step just done, unless there is one."""
        self.settle(wait=True)
        if self.progress.step != self._saved_step:
            self._begin(beside=True)
            self.settle()

    def save_last(self) -> None:
        """Keep a checkpoint of the step just done before this returns. Raises what keeps it from being written."""
        self.settle(wait=True)
        if self.progress.step != self._saved_step:
            self._begin(beside=False)
            self.settle(must=True)

    def settle(self, *, wait: bool = False, must: bool = False) -> None:
        """Tell what came of the checkpoint under way, if it is at its end; `wait` waits for that. A disk that is full
        is an error only where it `must` be kept: else the checkpoint before stays in use.
        """
        writing = self._writing
        if writing is None or not (wait or writing.path.done()):
            return
        error = writing.path.exception()
        self._writing, self._saved_at = None, time.monotonic()
        self._seconds = self._saved_at - writing.began
        if error is None:
            self._saved_step = writing.step
            best = writing.best_loss is not None
            if best:
                self._kept_best = (writing.step, writing.best_loss)
            name = writing.path.result().name
            self.emit("checkpoint", f"Checkpoint at step {writing.step}.", step=writing.step, name=name, best=best)
            return
        if self.progress.best_step == writing.step:  # nothing holds those weights: the best is what was kept before
            self.progress.best_step, self.progress.best_loss = self._kept_best
        if must or not state.is_storage_error(error):
            raise error
        message = f"No checkpoint at step {writing.step}, the one before stays in use: {error}"
        self.emit("log", message, level="warning", step=writing.step)

    def take_best(self) -> None:
        """Put the weights of the best step into the model, where that is not the last."""
        self.settle(wait=True)
        progress = self.progress
        if progress.best_step is None or progress.best_step == progress.step:
            return
        saved = self.store.at(progress.best_step)
        if saved is None:
            message = f"The best checkpoint (step {progress.best_step}) is gone; the model holds the last weights."
            self.emit("log", message, level="warning")
            progress.best_step, progress.best_loss = progress.step, progress.valid_loss
            return
        state.load_weights(read_tensors(saved, "weights"), self.trained)

    def close(self) -> None:
        """Wait for the checkpoint under way, and give back the memory of the copies."""
        try:
            self.settle(wait=True)
        finally:
            self._writer.shutdown()
            self._room.clear()

    def _begin(self, *, beside: bool) -> None:
        """Write the state after this step: a copy of it `beside` the training, or else itself before this returns."""
        progress, began = self.progress, time.monotonic()
        metrics = {"train_loss": progress.train_loss, "valid_loss": progress.valid_loss}
        told = {
            "progress": asdict(progress),
            "facts": self.facts,
            "python_random": state.python_random(),
            "best_step": progress.best_step,
            "metrics": {name: value for name, value in metrics.items() if value is not None},
        }
        tensors = state.tensors(self.trained, self.optimizer)
        copy = self._copied(tensors) if beside else None
        path = self._writer.submit(self.store.save_tensors, progress.step, copy or tensors, told)
        best_loss = progress.best_loss if progress.best_step == progress.step else None
        self._writing = _Writing(progress.step, best_loss, began, path)
        if copy is None:
            path.exception()  # waits

    def _copied(self, tensors: _Tensors) -> _Tensors | None:
        """The tensors as they are now, on the CPU; None where there is no room for a copy."""
        if self._copies is None:
            wanted = sum(tensor.nbytes for named in tensors.values() for tensor in named.values())
            spare = int(free_memory() * _SHARE_OF_MEMORY) if self._spare is None else self._spare
            self._copies = wanted <= spare
            if not self._copies:
                why = f"a copy takes {size(wanted)}, and {size(spare)} of memory can be spared"
                self.emit("log", f"Training waits for the disk at each checkpoint: {why}.")
        if not self._copies:
            return None
        return {
            name: {key: self._into_room((name, key), tensor) for key, tensor in named.items()}
            for name, named in tensors.items()
        }

    def _into_room(self, key: tuple[str, str], tensor: Tensor) -> Tensor:
        room = self._room.get(key)
        if room is None:
            room = self._room[key] = torch.empty(tensor.shape, dtype=tensor.dtype)
        return room.copy_(tensor.detach())
