"""A job at one moment, its checkpoints, and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tuneport.contract.events import Status
from tuneport.doors import public
from tuneport.html import card
from tuneport.printable import one_line
from tuneport.units import duration

CheckpointUse = Literal["resume", "answer", "download"]
USES: frozenset[str] = frozenset({"resume", "answer", "download"})


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A job at one moment.

    `native`: the backend's own name of the status. `message`: why the job has this status. `remedy`: what to do about
    it. `step`: optimizer steps done. `tokens`: tokens trained on so far. `queue_position`: from 1. Times are UTC and
    have a zone. `details`: JSON values for `tuneport show`; `usd` among them is what the job has cost.
    """

    status: Status
    native: str = ""
    message: str = ""
    remedy: str | None = None
    step: int = 0
    total_steps: int | None = None
    tokens: int = 0
    queue_position: int | None = None
    seconds_left: float | None = None
    created: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in plain.items()}

    def __repr__(self) -> str:
        steps = f", step {self.step:,} of {self.total_steps:,}" if self.total_steps else ""
        left = f", {duration(self.seconds_left)} left" if self.seconds_left else ""
        return one_line(f"<JobState {self.status}{steps}{left}{f': {self.message}' if self.message else ''}>")

    def _repr_html_(self) -> str:
        """For a notebook: the status, and what the backend reports."""
        return card(repr(self).strip("<>"), self.facts())

    def facts(self) -> list[tuple[str, object]]:
        """What a notebook shows: pairs of a name and a value."""
        times = [(name, getattr(self, name)) for name in ("created", "started", "finished")]
        facts: list[tuple[str, object]] = [("status", self.status), ("message", self.message), ("to do", self.remedy)]
        facts += [("step", f"{self.step:,} of {self.total_steps:,}")] if self.total_steps else []
        facts += [("tokens", f"{self.tokens:,}")] if self.tokens else []
        facts += [(name, f"{time:%Y-%m-%d %H:%M:%S} UTC") for name, time in times if time is not None]
        said = {name: one for name, one in self.details.items() if isinstance(one, str | int | float)}
        return facts + [(name.replace("_", " "), one) for name, one in said.items()]


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Weights that were kept during training: their name, step, and metrics where they were measured.

    `uses`: what the checkpoint can do: `resume` the training, `answer` as a model, `download` its weights. `expires`:
    when the service removes it, in UTC; None where it stays.
    """

    name: str
    step: int
    created: datetime
    metrics: Mapping[str, float] = field(default_factory=dict)
    best: bool = False
    uses: frozenset[CheckpointUse] = frozenset()
    expires: datetime | None = None


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What a deletion removed (or, in a dry run, would remove) and what stays, a line each.

    A line about what stays says where it is and, where possible, how to remove it.
    """

    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {"removed": list(self.removed), "kept": list(self.kept)}
