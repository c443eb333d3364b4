"""How a job spent its time: queued, working, or idle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tuneport.contract.events import Event, Status
from tuneport.units import parsed_time

_STATUSES = {str(status): status for status in Status}
_AT_WORK = (Status.PREPARING, Status.RUNNING, Status.PAUSING, Status.CANCELLING)


@dataclass(slots=True)
class Times:
    """Times in seconds. `queued` is None if it is not known apart from `worked`. `idle` is paused or interrupted."""

    worked: float = 0.0
    queued: float | None = None
    idle: float = 0.0


def times_of(events: Iterable[Event], state: Mapping[str, Any]) -> Times | None:
    """The times from status events that have a status in `data`, or otherwise from start and end, including the queue.

    None if neither is known. A process that was killed reported no end, so it counts as working until its last event.
    """
    times, seen = Times(queued=0.0), None
    status, since = Status.QUEUED, parsed_time(state.get("created"))
    for event in events:
        new = _STATUSES.get(event.data.get("status", "")) if event.kind == "status" else None
        if new is not None:
            if seen is not None and status in _AT_WORK and new in (Status.QUEUED, Status.INTERRUPTED):
                _add(times, status, since, seen)
                times.idle += (event.time - seen).total_seconds()
            else:
                _add(times, status, since, event.time)
            status, since, seen = new, event.time, None
        elif since is not None:
            seen = event.time
    if status is Status.QUEUED and not times.worked:
        return _from_start_and_end(state)
    _add(times, status, since, seen)
    return times


def _add(times: Times, status: Status, since: datetime | None, until: datetime | None) -> None:
    seconds = (until - since).total_seconds() if since is not None and until is not None else 0.0
    if status is Status.QUEUED:
        times.queued = (times.queued or 0.0) + seconds
    elif status in _AT_WORK:
        times.worked += seconds
    elif status.idle:
        times.idle += seconds


def _from_start_and_end(state: Mapping[str, Any]) -> Times | None:
    started, finished = parsed_time(state.get("started")), parsed_time(state.get("finished"))
    return Times(worked=(finished - started).total_seconds()) if started and finished else None
