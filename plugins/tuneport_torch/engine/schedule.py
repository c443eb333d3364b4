"""The learning rate of each step: warm-up and decay."""

from __future__ import annotations

import math

from tuneport_torch.resolved import Resolved


def learning_rate(step: int, plan: Resolved, schedule: str) -> float:
    """The learning rate of a step, counted from 0: a linear warm-up, then a decay to 0 by the schedule."""
    if step < plan.warmup_steps:
        return plan.learning_rate * (step + 1) / plan.warmup_steps
    done = (step - plan.warmup_steps) / max(1, plan.total_steps - plan.warmup_steps)
    share = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[schedule]
    return plan.learning_rate * share
