"""The wire's statuses, times and numbers as tuneport's, whatever a server sends."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from tuneport.plugin import Ref, Status

_WORDS = {
    "validating_files": Status.PREPARING,
    "queued": Status.QUEUED,
    "pending": Status.QUEUED,
    "created": Status.QUEUED,
    "running": Status.RUNNING,
    "resuming": Status.RUNNING,
    "cancelling": Status.CANCELLING,
    "pausing": Status.PAUSING,
    "paused": Status.PAUSED,
    "succeeded": Status.SUCCEEDED,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELLED,
    "canceled": Status.CANCELLED,
}
_LATEST = 32503680000  # the year 3000
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?\Z")


def status_of(word: object) -> Status:
    """The status for a server's own word; one that is not known here is unknown, which is not terminal."""
    return _WORDS.get(word, Status.UNKNOWN) if isinstance(word, str) else Status.UNKNOWN


def failure_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The error of a job as a dictionary; a server may send a text, or anything."""
    error = facts.get("error")
    if isinstance(error, dict):
        return error
    return {"message": error} if isinstance(error, str) else {}


def remedy_for(status: Status, ref: Ref, error: dict[str, Any]) -> str | None:
    """What to do about a job with this status."""
    if status is Status.FAILED:
        param = error.get("param")
        about = f"It is about {param!r}. " if isinstance(param, str) and param else ""
        return f"{about}To see the file that was sent: tuneport show {ref}"
    return f"Run: tuneport resume {ref}" if status is Status.PAUSED else None


def time_of(seconds: object) -> datetime | None:
    """A time of the wire, in seconds since 1970; None for anything else."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < _LATEST:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def seconds_left(facts: dict[str, Any]) -> float | None:
    """How many seconds the server expects the job to take from now."""
    finish = facts.get("estimated_finish")
    when = time_of(finish)
    return max(0.0, when.timestamp() - time.time()) if when is not None else None


def count_of(value: object) -> int | None:
    """An integer that is not negative; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def numbers(raw: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a checkpoint's metrics, without its step, which has a field of its own."""
    return {
        key: float(value)
        for key, value in raw.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and key != "step"
    }


def duration(text: str) -> float | None:
    """The seconds in `12`, `0.5`, `20ms`, `6m0s` or `1h2m3s`; None for anything else.

    >>> duration("1m30s")
    90.0
    """
    text = text.strip()
    try:
        found = float(text)
    except ValueError:
        found = _in_units(text)
    return found if math.isfinite(found) and found >= 0 else None


def _in_units(text: str) -> float:
    found = _DURATION.match(text)
    if not text or found is None:
        return math.nan
    try:
        hours, minutes, seconds, milliseconds = (float(one or 0) for one in found.groups())
    except ValueError:
        return math.nan
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds after which a server accepts another request: from a number, a duration or a date; None otherwise."""
    milliseconds = duration(headers.get("retry-after-ms") or "")
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after") or ""
    seconds = duration(text)
    if seconds is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
