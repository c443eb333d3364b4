"""The figures of steps: read when the device has computed them, counted and reported."""

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
from tuneport_torch.engine.state import Progress
from tuneport_torch.resolved import Resolved

_SKIPS_IN_A_ROW = 5
_REPORTS_PER_RUN = 1000  # a longer run reports only every nth step


class Reading:
    """Numbers that are being copied from the device. Only `read` waits for them."""

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
    """A step that the device may still compute. `tokens` are all up to its end; the last figure is the gradient
    norm.
    """

    number: int
    tokens: int
    rate: float
    figures: Reading


class Metrics:
    """Counts the steps of a training run in its `progress`, and reports their metrics in order.

    `names` are those of a step's figures; the first is the loss.
    """

    def __init__(self, progress: Progress, plan: Resolved, names: tuple[str, ...], emit: Callable[..., None]) -> None:
        self.progress, self.plan, self.names, self.emit = progress, plan, names, emit
        self._every = max(1, plan.total_steps // _REPORTS_PER_RUN)
        self._unread: deque[_Step] = deque()
        self._others: dict[str, float] = {}  # all figures but the loss, of the last step that was not skipped
        self._start_time = self._report_time = time.monotonic()
        self._start_step, self._reported_tokens = progress.step, progress.tokens

    def add(self, rate: float, figures: Tensor, norm: Tensor) -> None:
        """Add the step that just ended, with its figures on the device."""
        reading = Reading(torch.cat([figures, norm[None]]))
        self._unread.append(_Step(self.progress.step, self.progress.tokens, rate, reading))

    def flush(self, *, leave: int = 0, evaluated: dict[str, float] | None = None) -> None:
        """Read, count and report all steps but the last `leave`. `evaluated` are the figures of an evaluation after the
        last step, reported with it. Raises TuneportError if several steps in a row had no finite loss or gradients.
        """
        while len(self._unread) > leave:
            step = self._unread.popleft()
            *figures, norm = step.figures.read()
            self._count(step, figures, norm)
            measured = evaluated if not self._unread else None
            if measured or step.number in (1, self.plan.total_steps) or step.number % self._every == 0:
                self._report(step, norm, measured)

    def _count(self, step: _Step, figures: list[float], norm: float) -> None:
        progress = self.progress
        if math.isfinite(figures[0]) and math.isfinite(norm):
            progress.skipped_in_a_row = 0
            progress.train_loss = figures[0]
            self._others = dict(zip(self.names[1:], figures[1:], strict=True))
            return
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        message = f"Step {step.number} is skipped because its loss or gradients are not finite."
        self.emit("log", message, level="warning", step=step.number)
        if progress.skipped_in_a_row >= _SKIPS_IN_A_ROW:
            raise TuneportError(
                f"The loss or its gradients were not finite in {_SKIPS_IN_A_ROW} steps in a row, up to step "
                f"{step.number}.",
                remedy=f"Lower backends.torch.learning_rate (it was {step.rate:.2g}); if that does not help, set "
                "backends.torch.precision to float32.",
            )

    def _report(self, step: _Step, norm: float, evaluated: dict[str, float] | None) -> None:
        progress, plan, now = self.progress, self.plan, time.monotonic()
        seconds_per_step = (now - self._start_time) / (step.number - self._start_step)
        data: dict[str, Any] = {
            "step": step.number,
            "total_steps": plan.total_steps,
            "epoch": round(step.number / plan.steps_per_epoch, 4),
            "train_loss": progress.train_loss,
            **self._others,
            "learning_rate": step.rate,
            "grad_norm": norm if math.isfinite(norm) else None,
            "tokens": step.tokens,
            "tokens_per_second": round((step.tokens - self._reported_tokens) / max(now - self._report_time, 1e-9), 1),
            "seconds_left": round(seconds_per_step * (plan.total_steps - step.number), 1),
        }
        message = f"step {step.number}/{plan.total_steps}"
        if progress.train_loss is not None:
            message += f" loss {progress.train_loss:.4f}"
        if evaluated:
            data |= {f"valid_{name}": figure for name, figure in evaluated.items()}
            message += f" validation {evaluated['loss']:.4f}"
        self._report_time, self._reported_tokens = now, step.tokens
        self.emit("metric", message, **data)
