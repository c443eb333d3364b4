"""What steps came to: read once the device is there, counted, and told."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuneport.errors import TuneportError
from tuneport_torch.config import Resolved
from tuneport_torch.engine.state import Progress

_SKIPS_IN_A_ROW = 5
_TOLD_A_RUN = 1000  # of a longer run, only every so manieth step is told


class Reading:
    """Numbers on their way from the device: only who reads them waits for it."""

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers.to("cpu", non_blocking=numbers.is_cuda)
        self._copied = torch.cuda.current_stream().record_event() if numbers.is_cuda else None

    def read(self) -> list[float]:
        if self._copied is not None:
            self._copied.synchronize()
        numbers: list[float] = self._numbers.tolist()
        return numbers


@dataclass(frozen=True, slots=True)
class _Step:
    """A step that was asked of the device; `tokens` are all up to its end, `figures` end with the gradients' norm."""

    number: int
    tokens: int
    rate: float
    figures: Reading


class Metrics:
    """Counts the steps of one training in its `progress` and emits their metrics, in order.

    `names` are those of the figures of a step; the first is the loss.
    """

    def __init__(self, progress: Progress, plan: Resolved, names: tuple[str, ...], emit: Callable[..., None]) -> None:
        self.progress, self.plan, self.names, self.emit = progress, plan, names, emit
        self._every = max(1, plan.total_steps // _TOLD_A_RUN)
        self._unread: deque[_Step] = deque()
        self._others: dict[str, float] = {}  # the figures beside the loss, of the last step that was not skipped
        self._began_at = self._told_at = time.monotonic()
        self._began_step, self._told_tokens = progress.step, progress.tokens

    def add(self, rate: float, figures: Tensor, norm: Tensor) -> None:
        """The step that `progress` stands after, with its figures on the device."""
        reading = Reading(torch.cat([figures, norm[None]]))
        self._unread.append(_Step(self.progress.step, self.progress.tokens, rate, reading))

    def settle(self, *, leave: int = 0, evaluated: dict[str, float] | None = None) -> None:
        """Read, count and tell all steps but the last `leave`; `evaluated` are the figures of an evaluation after the
        last step, told with it. Raises TuneportError when nothing was finite for some steps in a row.
        """
        while len(self._unread) > leave:
            step = self._unread.popleft()
            *figures, norm = step.figures.read()
            self._count(step, figures, norm)
            measured = evaluated if not self._unread else None
            if measured or step.number in (1, self.plan.total_steps) or step.number % self._every == 0:
                self._tell(step, norm, measured)

    def _count(self, step: _Step, figures: list[float], norm: float) -> None:
        progress = self.progress
        if math.isfinite(figures[0]) and math.isfinite(norm):
            progress.skipped_in_a_row = 0
            progress.train_loss = figures[0]
            self._others = dict(zip(self.names[1:], figures[1:], strict=True))
            return
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        message = f"Step {step.number} is skipped: its loss or gradients are not finite."
        self.emit("log", message, level="warning", step=step.number)
        if progress.skipped_in_a_row >= _SKIPS_IN_A_ROW:
            raise TuneportError(
                f"The loss or its gradients were not finite in {_SKIPS_IN_A_ROW} steps in a row, up to step "
                f"{step.number}.",
                remedy=f"Lower backends.torch.learning_rate (it was {step.rate:.2g}); if that does not help, set "
                "backends.torch.precision to float32.",
            )

    def _tell(self, step: _Step, norm: float, evaluated: dict[str, float] | None) -> None:
        progress, plan, now = self.progress, self.plan, time.monotonic()
        a_step = (now - self._began_at) / (step.number - self._began_step)
        data: dict[str, Any] = {
            "step": step.number,
            "total_steps": plan.total_steps,
            "epoch": round(step.number / plan.steps_per_epoch, 4),
            "train_loss": progress.train_loss,
            **self._others,
            "learning_rate": step.rate,
            "grad_norm": norm if math.isfinite(norm) else None,
            "tokens": step.tokens,
            "tokens_per_second": round((step.tokens - self._told_tokens) / max(now - self._told_at, 1e-9), 1),
            "seconds_left": round(a_step * (plan.total_steps - step.number), 1),
        }
        message = f"step {step.number}/{plan.total_steps}"
        if progress.train_loss is not None:
            message += f" loss {progress.train_loss:.4f}"
        if evaluated:
            data |= {f"valid_{name}": figure for name, figure in evaluated.items()}
            message += f" validation {evaluated['loss']:.4f}"
        self._told_at, self._told_tokens = now, step.tokens
        self.emit("metric", message, **data)
