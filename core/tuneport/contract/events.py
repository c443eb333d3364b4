"""What a job says of itself: its status and its numbered events."""

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
    """Where a job stands, in the same words for every backend.

    `interrupted`: it should run and nothing runs it; resume helps. `unconfirmed`: it may have been started and nobody
    could learn whether. `unknown`: the backend used a word that tuneport does not know; it is not terminal.
    """

    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    UNCONFIRMED = "unconfirmed"
    CANCELLING = "cancelling"
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
        """Whether the job is not over but nothing will happen until somebody acts."""
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

    Metric events carry numbers in `data` under the field's usual names: `step`, `epoch`, `train_loss`, `valid_loss`,
    `learning_rate`, `tokens_per_second`, `grad_norm`, `tokens` (trained on so far). Status events that are told when
    they happen carry the word as `status`: reports tell the queue from the training by it.
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
