"""Saves checkpoints during training: the state is copied between two steps, and a thread writes the copy to disk."""

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
_SHARE_OF_TIME = 1 / 20  # that saving may take, including the thread's part
_SHARE_OF_MEMORY = 1 / 2  # of what is free, that a copy may take


@dataclass(frozen=True, slots=True)
class _Writing:
    """A checkpoint that is being written. `best_loss` is its validation loss if it is the best so far."""

    step: int
    best_loss: float | None
    start: float
    path: Future[Path]


class Saver:
    """Saves the checkpoints of a training run, at most one at a time.

    The tensors are copied bit for bit into memory that is kept for the next copy, because new memory costs ten times as
    much as the copying. If a copy does not fit into `spare` bytes (None: half of the memory that is free at the first
    checkpoint), training waits for the disk instead. `collect` reports the outcome of a checkpoint in the thread of the
    training.
    """

    def __init__(
        self,
        store: Store,
        progress: Progress,
        trained: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        facts: Mapping[str, Any],
        *,
        every: int | Literal["by time"],
        emit: Callable[..., None],
        spare: int | None = None,
    ) -> None:
        self.store, self.progress, self.facts, self.emit = store, progress, facts, emit
        self.trained, self.optimizer, self.every = trained, optimizer, every
        self._saved_step, self._saved_at, self._seconds = progress.step, time.monotonic(), 0.0
        self._kept_best = (progress.best_step, progress.best_loss)
        self._writing: _Writing | None = None
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._buffers: dict[tuple[str, str], Tensor] = {}
        self._spare = spare
        self._copies: bool | None = None  # decided at the first checkpoint

    def is_due(self) -> bool:
        """Whether a checkpoint is due now. When checkpoints are saved does not change any result."""
        if self.every != "by time":
            return self.progress.step % self.every == 0
        waited = time.monotonic() - self._saved_at
        return self._writing is None and waited > max(_SECONDS_BETWEEN, self._seconds / _SHARE_OF_TIME)

    def save(self) -> None:
        """Start to save a checkpoint after the current step, unless there is one."""
        self.collect(wait=True)
        if self.progress.step != self._saved_step:
            self._start(copy=True)
            self.collect()

    def save_last(self) -> None:
        """Save a checkpoint after the current step before returning. Raises the error if it cannot be written."""
        self.collect(wait=True)
        if self.progress.step != self._saved_step:
            self._start(copy=False)
            self.collect(must=True)

    def collect(self, *, wait: bool = False, must: bool = False) -> None:
        """Report the outcome of the pending checkpoint, if it is finished; with `wait`, wait for it. A full disk is an
        error only if the checkpoint `must` be saved; otherwise the previous one stays in use.
        """
        writing = self._writing
        if writing is None or not (wait or writing.path.done()):
            return
        error = writing.path.exception()
        self._writing, self._saved_at = None, time.monotonic()
        self._seconds = self._saved_at - writing.start
        if error is None:
            self._saved_step = writing.step
            best = writing.best_loss is not None
            if best:
                self._kept_best = (writing.step, writing.best_loss)
            name = writing.path.result().name
            self.emit("checkpoint", f"Checkpoint at step {writing.step}.", step=writing.step, name=name, best=best)
            return
        if self.progress.best_step == writing.step:  # those weights are not saved, so the best is again the one before
            self.progress.best_step, self.progress.best_loss = self._kept_best
        if must or not state.is_storage_error(error):
            raise error
        message = f"No checkpoint at step {writing.step}; the previous one stays in use: {error}"
        self.emit("log", message, level="warning", step=writing.step)

    def take_best(self) -> None:
        """Load the weights of the best step into the model, if that is not the last step."""
        self.collect(wait=True)
        progress = self.progress
        if progress.best_step is None or progress.best_step == progress.step:
            return
        saved = self.store.at(progress.best_step)
        if saved is None:
            message = f"The best checkpoint (step {progress.best_step}) is missing; the model has the last weights."
            self.emit("log", message, level="warning")
            progress.best_step, progress.best_loss = progress.step, progress.valid_loss
            return
        state.load_weights(read_tensors(saved, "weights"), self.trained)

    def close(self) -> None:
        """Wait for the pending checkpoint, and free the memory of the copies."""
        try:
            self.collect(wait=True)
        finally:
            self._writer.shutdown()
            self._buffers.clear()

    def _start(self, *, copy: bool) -> None:
        """Write the state after this step: a `copy` of it in the background, or the state itself before returning."""
        progress, start = self.progress, time.monotonic()
        metrics = {"train_loss": progress.train_loss, "valid_loss": progress.valid_loss}
        content = {
            "progress": asdict(progress),
            "facts": self.facts,
            "python_random": state.python_random(),
            "best_step": progress.best_step,
            "metrics": {name: value for name, value in metrics.items() if value is not None},
        }
        tensors = state.tensors(self.trained, self.optimizer)
        copied = self._copy(tensors) if copy else None
        path = self._writer.submit(self.store.save_tensors, progress.step, copied or tensors, content)
        best_loss = progress.best_loss if progress.best_step == progress.step else None
        self._writing = _Writing(progress.step, best_loss, start, path)
        if copied is None:
            path.exception()  # waits

    def _copy(self, tensors: _Tensors) -> _Tensors | None:
        """A copy of the tensors on the CPU; None if there is no memory for it."""
        if self._copies is None:
            wanted = sum(tensor.nbytes for named in tensors.values() for tensor in named.values())
            spare = int(free_memory() * _SHARE_OF_MEMORY) if self._spare is None else self._spare
            self._copies = wanted <= spare
            if not self._copies:
                why = f"a copy takes {size(wanted)}, but only {size(spare)} of memory may be used"
                self.emit("log", f"Training waits for the disk at each checkpoint: {why}.")
        if not self._copies:
            return None
        return {
            name: {key: self._copy_tensor((name, key), tensor) for key, tensor in named.items()}
            for name, named in tensors.items()
        }

    def _copy_tensor(self, key: tuple[str, str], tensor: Tensor) -> Tensor:
        buffer = self._buffers.get(key)
        if buffer is None:
            buffer = self._buffers[key] = torch.empty(tensor.shape, dtype=tensor.dtype)
        return buffer.copy_(tensor.detach())
