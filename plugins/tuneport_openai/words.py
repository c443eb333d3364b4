"""The wire's words and values in tuneport's, whatever a server makes of them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from tuneport import Ref, Status

_WORDS = {
    "validating_files": Status.PREPARING,
    "queued": Status.QUEUED,
    "pending": Status.QUEUED,
    "created": Status.QUEUED,
    "running": Status.RUNNING,
    "resuming": Status.RUNNING,
    "cancelling": Status.RUNNING,
    "pausing": Status.PAUSING,
    "paused": Status.PAUSED,
    "succeeded": Status.SUCCEEDED,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELLED,
    "canceled": Status.CANCELLED,
}


def status_of(word: object) -> Status:
    """The status that a server's word means; one that nobody knows is unknown, and not the end."""
    return _WORDS.get(word, Status.UNKNOWN) if isinstance(word, str) else Status.UNKNOWN


def remedy_for(status: Status, ref: Ref, error: dict[str, Any]) -> str | None:
    """What to type about a job that stands so."""
    if status is Status.FAILED and error.get("param"):
        return f"It is about {error['param']!r}. The file that was sent: tuneport show {ref}"
    return f"Run: tuneport resume {ref}" if status is Status.PAUSED else None


def time_of(seconds: object) -> datetime | None:
    """A time of the wire, which is in seconds since 1970; None for what is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def seconds_left(facts: dict[str, Any]) -> float | None:
    """How long a job is expected to run still."""
    finish = facts.get("estimated_finish")
    return max(0.0, finish - time.time()) if isinstance(finish, int | float) else None


def whole(value: object) -> int | None:
    """A whole number, or None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def numbers(raw: dict[str, Any]) -> dict[str, float]:
    """The numbers of a checkpoint's metrics; its step is told beside them."""
    return {key: float(value) for key, value in raw.items() if isinstance(value, int | float) and key != "step"}
