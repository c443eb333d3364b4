"""The wire's words and values in tuneport's, whatever a server makes of them."""

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
    "cancelling": Status.RUNNING,
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
    """The status that a server's word means; one that nobody knows is unknown, and not the end."""
    return _WORDS.get(word, Status.UNKNOWN) if isinstance(word, str) else Status.UNKNOWN


def remedy_for(status: Status, ref: Ref, error: dict[str, Any]) -> str | None:
    """What to type about a job that stands so."""
    if status is Status.FAILED:
        param = error.get("param")
        about = f"It is about {param!r}. " if isinstance(param, str) and param else ""
        return f"{about}The file that was sent: tuneport show {ref}"
    return f"Run: tuneport resume {ref}" if status is Status.PAUSED else None


def time_of(seconds: object) -> datetime | None:
    """A time of the wire, which is in seconds since 1970; None for what is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < _LATEST:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def seconds_left(facts: dict[str, Any]) -> float | None:
    """How long a job is expected to run still."""
    finish = facts.get("estimated_finish")
    when = time_of(finish)
    return max(0.0, when.timestamp() - time.time()) if when is not None else None


def whole(value: object) -> int | None:
    """A whole number, or None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def numbers(raw: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a checkpoint's metrics; its step is told beside them."""
    return {
        key: float(value)
        for key, value in raw.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and key != "step"
    }


def duration(text: str) -> float | None:
    """Seconds of `12`, `0.5`, `20ms`, `6m0s` or `1h2m3s`; None for anything else."""
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
        hours, minutes, seconds, thousandths = (float(one or 0) for one in found.groups())
    except ValueError:
        return math.nan
    return hours * 3600 + minutes * 60 + seconds + thousandths / 1000


def retry_after(headers: Mapping[str, str]) -> float | None:
    """In how many seconds a server wants to be asked again: from a number, a duration or a date; None for no sense."""
    thousandths = duration(headers.get("retry-after-ms") or "")
    if thousandths is not None:
        return thousandths / 1000
    told = headers.get("retry-after") or ""
    seconds = duration(told)
    if seconds is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
