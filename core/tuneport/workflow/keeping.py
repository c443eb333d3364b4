"""What the ledger keeps for a backend that cannot keep it itself: a scratch per job, and the numbers of its events."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from tuneport.events import Event
from tuneport.ledger import Ledger
from tuneport.refs import Ref


def job_scratch(ref: str | Ref) -> MutableMapping[str, Any]:
    """The scratch that a job's start request had: text → JSON value, each assignment committed at once.

    Raises JobNotFound for a job that was not started from this machine.
    """
    ledger = Ledger.open()
    return ledger.scratch(ledger.job(ref).intent)


def keep_events(ref: str | Ref, events: Iterable[tuple[str, Event]]) -> list[Event]:
    """Number a job's events once: of (the backend's own id, event), those not seen before come back with their `seq`.

    The `seq` they come with is not looked at. Any number of processes may hand in what they saw.
    """
    with Ledger.open() as ledger:
        return ledger.history.append(ref, events)


def kept_events(ref: str | Ref, after: int = 0) -> list[Event]:
    """The events that were kept for a job, in order, from the one that follows number `after`."""
    with Ledger.open() as ledger:
        return ledger.history.events(ref, after)
