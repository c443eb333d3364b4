"""A job's events as lines of a growing file, and the status that follows from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from tuneport.contract.events import Event, Status, utc_now
from tuneport.files import open_regular


@dataclass(kw_only=True)
class JobStatus:
    """The content of status.json: the fields of `tuneport.JobState` that outlive the process that wrote them, and
    `seq`, the number of the event that set the status.
    """

    seq: int = 0
    status: Status = Status.QUEUED
    native: str = ""
    message: str = ""
    remedy: str | None = None
    step: int = 0
    total_steps: int | None = None
    tokens: int = 0
    queue_position: int | None = None
    seconds_left: float | None = None
    created: datetime = field(default_factory=utc_now)
    started: datetime | None = None
    finished: datetime | None = None
    details: dict[str, Any] = field(default_factory=dict)


class EventReader:
    """Reads a growing events.jsonl; it remembers its position, and returns complete lines only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seq = 0
        self._offset = 0

    def after(self, seq: int) -> Iterator[Event]:
        """The events that follow number `seq` and are written so far."""
        if seq < self._seq:
            self._seq = self._offset = 0
        try:
            stream = open_regular(self._path)
        except FileNotFoundError:
            return
        with stream:
            stream.seek(self._offset)
            for line in stream:
                event = parse_event(line)
                if event is None:
                    return
                if event.seq <= seq:
                    self._seq, self._offset = event.seq, stream.tell()
                    continue
                yield event


def parse_event(line: bytes) -> Event | None:
    """The event of a line, or None when a kill or a power cut left it incomplete."""
    if not line.endswith(b"\n"):
        return None
    try:
        return Event.from_dict(msgspec.json.decode(line))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, RecursionError):
        return None


def apply_event(status: JobStatus, event: Event | None) -> JobStatus:
    """The status that the newest status event gives: events are written before status.json."""
    if event is None or event.seq <= status.seq:
        return status
    now, data = Status(event.data["status"]), event.data
    return replace(
        status,
        seq=event.seq,
        status=now,
        message=event.message,
        native=data["native"],
        remedy=data["remedy"],
        finished=event.time if now.terminal else None,
    )
