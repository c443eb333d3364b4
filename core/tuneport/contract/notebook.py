"""What tuneport keeps of a job for its backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, MutableMapping
from dataclasses import replace
from typing import Any, Protocol

from tuneport.contract.events import Event
from tuneport.contract.state import JobState
from tuneport.doors import AUTHORS, public
from tuneport.refs import Ref


class EventSource(Protocol):
    """A job, as far as the delivery of its events needs it."""

    ref: Ref

    def events(self, after: int = 0) -> Iterable[Event]:
        """What has happened since event number `after`, in order."""


@public(AUTHORS)
class Notebook(ABC):
    """The one durable thing that a backend gets for each job: a scratch and a numbered list of events.

    Every method may be called from any process and thread, writes durably before it returns, and uses no network.
    All raise HomeError where the ledger cannot be used, and JobNotFound once the job was deleted.
    """

    @property
    @abstractmethod
    def scratch(self) -> MutableMapping[str, Any]:
        """Text → JSON value. Each assignment is committed when it returns. What is read is a copy: to change a list or
        dictionary, assign it again. There is no compare-and-set; `Backend.start` runs alone for its intent.
        """

    @abstractmethod
    def append(self, events: Iterable[tuple[str, Event]]) -> list[Event]:
        """Number events once: of pairs (the backend's own id, event), those with a new id are kept and returned with
        their `seq`. The `seq` that they come with is ignored.
        """

    @abstractmethod
    def events(self, after: int = 0) -> list[Event]:
        """The events that `append` has kept, in order, from the one that follows number `after`."""

    @abstractmethod
    def deliver(self, job: EventSource) -> dict[str, str]:
        """Give each observer the job's events that it has not seen, in order, at least once.

        Returns the reasons of the observers that raised, by name; they get the same event again at the next call.
        `wait` and `follow` call this. A backend calls it only where its jobs set `delivers_events`. It may be called
        from within `events()`: it then delivers what `append` has kept.
        """

    @abstractmethod
    def keep(self, state: JobState) -> None:
        """Keep the last known state of the job, for when its backend cannot be asked."""


@public(AUTHORS)
class MemoryNotebook(Notebook):
    """A notebook that is kept in memory alone: of a plan, and for tests. It has no observers.

    >>> notebook = MemoryNotebook()
    >>> notebook.scratch["job"] = "ft-1"
    >>> notebook.events()
    []
    """

    def __init__(self) -> None:
        self._scratch: dict[str, Any] = {}
        self._events: dict[str, Event] = {}

    @property
    def scratch(self) -> MutableMapping[str, Any]:
        """A dictionary."""
        return self._scratch

    def append(self, events: Iterable[tuple[str, Event]]) -> list[Event]:
        """Number events once, by their ids."""
        new = []
        for native_id, event in events:
            if native_id not in self._events:
                self._events[native_id] = replace(event, seq=len(self._events) + 1)
                new.append(self._events[native_id])
        return new

    def events(self, after: int = 0) -> list[Event]:
        """The events that follow number `after`."""
        return list(self._events.values())[after:]

    def deliver(self, job: EventSource) -> dict[str, str]:
        """Nothing: there are no observers."""
        del job
        return {}

    def keep(self, state: JobState) -> None:
        """Nothing: the memory is gone before anyone could ask."""
        del state
