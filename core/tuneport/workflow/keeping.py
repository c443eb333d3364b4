"""What the ledger keeps of a job: where it stood last and, for a backend that cannot keep them itself, a scratch and
the numbers of its events.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from typing import Any

from tuneport.contract.events import Event
from tuneport.contract.job import Job, JobState, set_keepers
from tuneport.doors import AUTHORS, public
from tuneport.errors import HomeError, JobNotFound
from tuneport.ledger import Ledger
from tuneport.refs import Ref

_log = logging.getLogger("tuneport")


def keep_state(job: Job, state: JobState) -> None:
    """Keep where a job stands, for the day on which nobody can be asked."""
    with Ledger.open() as ledger, suppress(JobNotFound):  # a job that this machine did not start is in no ledger
        ledger.heard(job.ref, state)


def _keep_or_warn(job: Job, state: JobState) -> None:
    try:
        keep_state(job, state)
    except HomeError as error:  # a full disk must not keep a model from who has waited for it
        _log.warning("Where %s stands could not be kept: %s", job.ref, error)


set_keepers(_keep_or_warn)


@public(AUTHORS)
def job_scratch(ref: str | Ref) -> MutableMapping[str, Any]:
    """The scratch that a job's start request had: text → JSON value, each assignment committed at once.

    Raises JobNotFound for a job that was not started from this machine.
    """
    ledger = Ledger.open()
    return ledger.scratch(ledger.job(ref).intent)


@public(AUTHORS)
def keep_events(ref: str | Ref, events: Iterable[tuple[str, Event]]) -> list[Event]:
    """Number a job's events once: of (the backend's own id, event), those not seen before come back with their `seq`.

    The `seq` they come with is not looked at. Any number of processes may hand in what they saw.
    """
    with Ledger.open() as ledger:
        return ledger.history.append(ref, events)


@public(AUTHORS)
def kept_events(ref: str | Ref, after: int = 0) -> list[Event]:
    """The events that were kept for a job, in order, from the one that follows number `after`."""
    with Ledger.open() as ledger:
        return ledger.history.events(ref, after)
