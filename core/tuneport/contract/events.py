"""What a job reports: its status and its numbered events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, Self

from tuneport.doors import AUTHORS, public

EventKind = Literal["status", "metric", "log", "checkpoint"]
EventLevel = Literal["info", "warning", "error"]


@public()
class Status(StrEnum):
    """The status of a job, in the same words for every backend.

    `cancelling`: a cancellation was accepted and the job has not ended yet. `interrupted`: it should run and nothing
    runs it; resume helps. `unconfirmed`: it may have been started, and that could not be found out. `unknown`: the
    backend used a word that tuneport does not know; it is not terminal.
    """

    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    INTERRUPTED = "interrupted"
    UNCONFIRMED = "unconfirmed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def terminal(self) -> bool:
        """Whether the job is over for good."""
        return self in _TERMINAL

    @property
    def idle(self) -> bool:
        """Whether the job is not over and nothing will happen until someone acts."""
        return self in _IDLE


_TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})
_IDLE = frozenset({Status.PAUSED, Status.INTERRUPTED, Status.UNCONFIRMED})


@public(AUTHORS)
def utc_now() -> datetime:
    """The time now, in UTC with its zone."""
    return datetime.now(UTC)


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to a job; `seq` counts from 1 without gaps per job, `time` is UTC.

    Metric events have numbers in `data` under the usual names: `step`, `total_steps`, `epoch`, `train_loss`,
    `valid_loss`, `learning_rate`, `tokens_per_second`, `grad_norm`, `tokens` (trained on so far), `seconds_left`. A
    status event that is made when the status changes has it in `data` as `status`: reports compute from these events
    how long the job was queued and how long it trained.
    """

    seq: int
    time: datetime
    kind: EventKind
    message: str
    level: EventLevel = "info"
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "seq": self.seq,
            "time": self.time.isoformat(),
            "kind": self.kind,
            "level": self.level,
            "message": self.message,
            "data": dict(self.data),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The event that `to_dict` wrote."""
        return cls(
            seq=raw["seq"],
            time=datetime.fromisoformat(raw["time"]),
            kind=raw["kind"],
            level=raw["level"],
            message=raw["message"],
            data=raw["data"],
        )
