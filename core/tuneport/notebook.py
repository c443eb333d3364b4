"""What the ledger keeps of one job for its backend: a scratch, numbered events, and what observers have seen."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from tuneport.contract.events import Event
from tuneport.contract.job import Job
from tuneport.ledger import Ledger
from tuneport.loader import load
from tuneport.refs import Ref


class LedgerNotebook:
    """The notebook of one job. Any number of processes may use it at once."""

    def __init__(self, ref: Ref, scratch: MutableMapping[str, Any] | None = None) -> None:
        self.ref = ref
        self._scratch = scratch

    @property
    def scratch(self) -> MutableMapping[str, Any]:
        """Text → JSON value; each assignment is durable when it returns. Raises JobNotFound for a job of nobody."""
        if self._scratch is None:
            ledger = Ledger.open()
            self._scratch = ledger.scratch(ledger.job(self.ref).intent)
        return self._scratch

    def append(self, events: Iterable[tuple[str, Event]]) -> list[Event]:
        """Number events once: of (the backend's own id, event), those not seen before come back with their `seq`."""
        with Ledger.open() as ledger:
            return ledger.history.append(self.ref, events)

    def events(self, after: int = 0) -> list[Event]:
        """The events that were kept, in order, from the one that follows number `after`."""
        with Ledger.open() as ledger:
            return ledger.history.events(self.ref, after)

    def deliver(self, job: Job) -> None:
        """Hand every observer the events that it has not seen yet, in order."""
        plugins = load()
        names = plugins.observers()
        if not names:
            return
        with Ledger.open() as ledger:
            for name in names:
                for event in ledger.history.events(self.ref, ledger.history.cursor(name, self.ref)):
                    if plugins.notify(name, job, event) is not None:
                        break
                    ledger.history.set_cursor(name, self.ref, event.seq)
