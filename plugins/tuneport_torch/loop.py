"""The training loop, from the first row to the best weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch

    from tuneport_torch.checkpoint import Store
    from tuneport_torch.config import TorchSettings
    from tuneport_torch.pack import Row


class Emit(Protocol):
    """Tells the world an event; `data` holds numbers and texts only."""

    def __call__(self, kind: str, message: str, *, level: str = "info", **data: Any) -> None: ...


@dataclass(kw_only=True)
class Run:
    """Everything that one training needs. `model` is changed: it gets an adapter, moves to the device, and holds the best
    weights in the end. `should_stop` is asked often, and answers at once.
    """

    model: torch.nn.Module
    train: Sequence[Row]
    validation: Sequence[Row] = ()
    settings: TorchSettings
    epochs: int | Literal["auto"] = "auto"
    seed: int = 0
    store: Store
    emit: Emit
    should_stop: Callable[[], Literal["pause", "cancel"] | None] = field(default=lambda: None)


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a training ended. `stopped` is why it ended before its last step, if it did: "pause" and "cancel" are as asked,
    "patience" is early stopping, which is a success. Losses are in nats per token of weight 1.
    """

    stopped: Literal["pause", "cancel", "patience"] | None
    step: int
    total_steps: int
    tokens: int
    best_step: int
    train_loss: float
    valid_loss: float | None
    skipped_steps: int
