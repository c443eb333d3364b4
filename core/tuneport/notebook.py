"""A job's notebook in the ledger: its scratch, its numbered events, and what observers have seen of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from tuneport.contract.notebook import EventSource, Notebook
from tuneport.doors import AUTHORS, public
from tuneport.errors import HomeError, JobNotFound
from tuneport.ledger import Ledger
from tuneport.loader import Plugins, load
from tuneport.refs import Ref

if TYPE_CHECKING:
    from tuneport.contract.backend import Backend
    from tuneport.contract.events import Event
    from tuneport.contract.job import Job
    from tuneport.contract.state import JobState

_thread = threading.local()


@public(AUTHORS)
def open_notebook(ref: str | Ref) -> Notebook:
    """The notebook that the job's start request had. Raises JobNotFound for a job that this machine did not start.

    Called by a backend that opens a job by its name, from any process.
    """
    with Ledger.open() as ledger:
        record = ledger.job(ref)
    return LedgerNotebook(record.ref, record.intent)


def attach(backend: Backend, job: Job) -> Job:
    """The same job, with the verbs of its backend, and with its notebook where this machine has started it."""
    job.verbs = backend.capabilities.verbs
    return attach_notebook(job)


def attach_notebook(job: Job) -> Job:
    """The same job, with its notebook where this machine has started it."""
    if job.notebook is None:
        with suppress(JobNotFound, HomeError):
            job.notebook = open_notebook(job.ref)
    return job


class LedgerNotebook(Notebook):
    """Kept in the ledger of home. The ledger is opened for each call, so that a notebook can be kept for days."""

    def __init__(self, ref: Ref, intent: str) -> None:
        self._ref, self._intent = ref, intent

    @cached_property
    def scratch(self) -> MutableMapping[str, Any]:
        """Text → JSON value, committed at each assignment."""
        return Ledger.open().scratch(self._intent)

    def append(self, events: Iterable[tuple[str, Event]]) -> list[Event]:
        """Number events once, by the backend's own ids."""
        with Ledger.open() as ledger:
            return ledger.history.append(self._ref, events)

    def events(self, after: int = 0) -> list[Event]:
        """The events that were kept, from the one that follows number `after`."""
        with Ledger.open() as ledger:
            return ledger.history.events(self._ref, after)

    def deliver(self, job: EventSource) -> dict[str, str]:
        """Give each observer what it has not seen. A cursor per observer in the ledger makes it at least once; an
        observer that raises keeps its cursor, and delays no other.
        """
        plugins = load()
        delivering: set[Ref] = vars(_thread).setdefault("delivering", set())
        if not plugins.observers() or self._ref in delivering:  # the second: called from within job.events()
            return {}
        delivering.add(self._ref)
        try:
            return self._deliver(plugins, job)
        finally:
            delivering.discard(self._ref)

    def keep(self, state: JobState) -> None:
        """Keep the last known state in the job's row."""
        with Ledger.open() as ledger:
            ledger.keep_state(self._ref, state)

    def _deliver(self, plugins: Plugins, job: EventSource) -> dict[str, str]:
        broken: dict[str, str] = {}
        with Ledger.open() as ledger:
            history = ledger.history
            numbered_here = history.last(self._ref) > 0
            for name in plugins.observers():
                cursor = history.cursor(name, self._ref)
                for event in history.events(self._ref, cursor) if numbered_here else job.events(cursor):
                    reason = plugins.notify(name, cast("Job", job), event)
                    if reason is not None:
                        broken[name] = reason
                        break
                    history.set_cursor(name, self._ref, event.seq)
        return broken
