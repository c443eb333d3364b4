"""The numbers of a job's metric events as series over its steps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from tuneport.contract.events import Event
from tuneport.units import finite

_STEPS = ("step", "epoch", "tokens")


@dataclass(slots=True)
class Series:
    """Values by name and step. If a step was trained twice, after a resume, the last values count."""

    x_label: str = "step"
    values: dict[str, dict[float, float]] = field(default_factory=dict)
    not_finite: int = 0
    epoch_starts: list[float] = field(default_factory=list)
    epochs: float | None = None

    def points(self, name: str) -> list[tuple[float, float]]:
        """The (step, value) pairs of one name, by step."""
        return sorted(self.values.get(name, {}).items())


def series_of(events: Iterable[Event]) -> Series:
    """The numbers of all metric events. If they have no steps, the events are counted instead."""
    found = Series()
    metrics = [event.data for event in events if event.kind == "metric"]
    if metrics and not any(finite(one.get("step")) is not None for one in metrics):
        found.x_label = "measurement"
    latest_epoch: float | None = None
    for place, numbers in enumerate(metrics, 1):
        x = finite(numbers.get("step")) if found.x_label == "step" else float(place)
        if x is None:
            continue
        for name, value in numbers.items():
            y = finite(value)
            if y is None:
                found.not_finite += isinstance(value, float) and not math.isfinite(value)
            elif name not in _STEPS:
                found.values.setdefault(name, {})[x] = y
        epoch = finite(numbers.get("epoch"))
        if epoch is not None:
            if latest_epoch is not None and math.floor(epoch) > math.floor(latest_epoch):
                found.epoch_starts.append(x)
            latest_epoch = epoch
            found.epochs = max(found.epochs or 0.0, epoch)
    return found
