"""One training, wherever it runs."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from tuneport.cards import card
from tuneport.contract.events import Event, Status
from tuneport.doors import AUTHORS, public
from tuneport.errors import (
    BackendError,
    JobCancelled,
    JobFailed,
    JobNotFinished,
    TuneportError,
    UnsupportedError,
    WaitTimeout,
)
from tuneport.printable import one_line
from tuneport.terminal.progress import Tell, shown
from tuneport.units import duration

if TYPE_CHECKING:
    from tuneport.contract.model import Model
    from tuneport.refs import Ref

EventSink = Callable[[Event], None]
Found = TypeVar("Found")
Keeper = Callable[["Job", "JobState"], None]

_keepers: list[Keeper] = []
_MOST_ODD = 5  # answers in a row that no outage explains
_LONGEST_PAUSE = 60.0


def set_keepers(*keepers: Keeper) -> None:
    """Say who is told where a job stands when waiting for it ends: the ledger is above this room."""
    _keepers[:] = keepers


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A job at one moment. `native` is the backend's own word for the status, `message` why it stands so, `remedy` what
    to type about it. `step` counts optimiser steps, `tokens` those trained on so far; times are UTC.
    """

    status: Status
    native: str = ""
    message: str = ""
    remedy: str | None = None
    step: int = 0
    total_steps: int | None = None
    tokens: int = 0
    queue_position: int | None = None
    seconds_left: float | None = None
    created: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in plain.items()}

    def __repr__(self) -> str:
        steps = f", step {self.step:,} of {self.total_steps:,}" if self.total_steps else ""
        left = f", {duration(self.seconds_left)} left" if self.seconds_left else ""
        return one_line(f"<JobState {self.status}{steps}{left}{f': {self.message}' if self.message else ''}>")

    def _repr_html_(self) -> str:
        """For a notebook: where the job stands, and what its backend says of it."""
        return card(repr(self).strip("<>"), self._facts())

    def _facts(self) -> list[tuple[str, object]]:
        times = [(name, getattr(self, name)) for name in ("created", "started", "finished")]
        facts: list[tuple[str, object]] = [("status", self.status), ("message", self.message), ("to do", self.remedy)]
        facts += [("step", f"{self.step:,} of {self.total_steps:,}")] if self.total_steps else []
        facts += [("tokens", f"{self.tokens:,}")] if self.tokens else []
        facts += [(name, f"{time:%Y-%m-%d %H:%M:%S} UTC") for name, time in times if time is not None]
        said = {name: one for name, one in self.details.items() if isinstance(one, str | int | float)}
        return facts + [(name.replace("_", " "), one) for name, one in said.items()]


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A state of the weights that was kept: its name, its step, and its metrics where they were measured."""

    name: str
    step: int
    created: datetime
    metrics: Mapping[str, float] = field(default_factory=dict)
    best: bool = False


@public()
class Job(ABC):
    """A handle on a training. It can be thrown away, and opened again from any process by its ref.

    A plugin writes `state`, `events`, `cancel`, `result` and `delete`, and `pause` and `resume` where its capabilities
    have the verbs.
    """

    ref: Ref
    poll_seconds: float = 5.0
    outage_seconds: float = 1800.0
    """How long `wait` and `follow` bear a service that cannot be asked."""

    @abstractmethod
    def state(self) -> JobState:
        """Where the job stands now."""

    @abstractmethod
    def events(self, after: int = 0) -> Iterable[Event]:
        """What has happened so far, in order, from the event that follows number `after`."""

    @abstractmethod
    def cancel(self) -> None:
        """End the job for good. May be repeated; does nothing to a job that is over."""

    @abstractmethod
    def result(self) -> Model:
        """The tuned model of a job that succeeded; raises a JobError of another."""

    @abstractmethod
    def delete(self, *, dry_run: bool = False) -> list[str]:
        """Remove what the backend keeps of the job, its model included; what was (or would be) removed, a line each.

        Raises JobNotFinished for a job that still runs.
        """

    def pause(self) -> None:
        """Stop after the step at hand, so that `resume` goes on from there."""
        raise UnsupportedError(f"{self.ref} cannot be paused: its backend has no such verb.")

    def resume(self) -> None:
        """Go on with a paused or interrupted job. Does nothing to one that runs."""
        raise UnsupportedError(f"{self.ref} cannot be resumed: its backend has no such verb.")

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that are there, oldest first."""
        return []

    def prune(self, *, dry_run: bool = False) -> int:
        """Remove what a job that is over no longer needs, such as its checkpoints; how many bytes that frees."""
        del dry_run
        return 0

    @property
    def status(self) -> Status:
        """Where the job stands now, in one word."""
        return self.state().status

    def metrics(self) -> list[dict[str, Any]]:
        """The data of all metric events so far, in order."""
        return [dict(event.data) for event in self.events() if event.kind == "metric"]

    def follow(self, after: int = 0) -> Iterator[Event]:
        """Events from number `after` on as they happen, until the job is over or waits for somebody to act.

        Asks again after a passing fault, as `wait` does.
        """
        patience = Patience(self)
        while True:
            state = patience.ask(self.state)
            for event in patience.ask(lambda: list(self.events(after))):  # noqa: B023 - called at once
                after = event.seq
                yield event
            if state.status.terminal or state.status.idle:
                self._keep(state)
                return
            time.sleep(self.poll_seconds)

    def wait(
        self,
        timeout: float | None = None,
        on_event: EventSink | None = None,
        after: int = 0,
        *,
        progress: bool | None = None,
    ) -> Model:
        """Wait for the tuned model; `timeout` in seconds. Stopping to wait does not stop the job.

        `on_event` gets every event from number `after` on. A terminal and a notebook show how far the job is, unless
        `progress` is False or `on_event` is given. A passing fault (no connection, a busy service) is borne for
        `outage_seconds`, with pauses that grow or that the service asks for. Raises JobFailed, JobCancelled,
        JobNotFinished (paused, interrupted, unconfirmed) or WaitTimeout.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        quiet = on_event is not None and progress is None
        with shown(f"Waiting for {self.ref}", False if quiet else progress) as tell:
            return self._wait(deadline, timeout or 0.0, on_event, after, tell)

    def _wait(
        self, deadline: float | None, timeout: float, on_event: EventSink | None, after: int, tell: Tell | None
    ) -> Model:
        patience = Patience(self, deadline)
        while True:
            state = patience.ask(self.state)
            if tell is not None:
                left = f", {duration(state.seconds_left)} left" if state.seconds_left else ""
                tell(state.step, state.total_steps or 0, f"{state.status}{left}")
            if on_event is not None:
                for event in patience.ask(lambda: list(self.events(after))):  # noqa: B023 - called at once
                    after = event.seq
                    on_event(event)
            if state.status.terminal or state.status.idle:
                self._keep(state)
                self._raise_unless_succeeded(state)
                return patience.ask(self.result)
            pause = self.poll_seconds
            if deadline is not None:
                pause = min(pause, deadline - time.monotonic())
                if pause <= 0:
                    raise WaitTimeout(
                        f"{self.ref} is still {state.status} after {timeout:g} s.",
                        remedy=f"It goes on. Wait again, or run: tuneport watch {self.ref}",
                    )
            time.sleep(pause)

    def require_success(self) -> None:
        """Raise JobFailed, JobCancelled or JobNotFinished unless the job has succeeded; for a plugin's `result`."""
        state = self.state()
        if state.status.terminal or state.status.idle:
            self._raise_unless_succeeded(state)
        else:
            raise JobNotFinished(
                f"{self.ref} is {state.status}: its model is not there yet.",
                ref=str(self.ref),
                status=state.status,
                remedy=f"Run: tuneport watch {self.ref}",
            )

    def _keep(self, state: JobState) -> None:
        for keeper in _keepers:
            keeper(self, state)

    def _raise_unless_succeeded(self, state: JobState) -> None:
        ref, why = str(self.ref), f": {state.message}" if state.message else "."
        if state.status is Status.SUCCEEDED:
            return
        if state.status is Status.FAILED:
            raise JobFailed(f"{ref} failed{why}", ref=ref, remedy=state.remedy)
        if state.status is Status.CANCELLED:
            raise JobCancelled(f"{ref} was cancelled{why}", ref=ref, remedy=state.remedy)
        verb = "settle" if state.status is Status.UNCONFIRMED else "resume"
        raise JobNotFinished(
            f"{ref} is {state.status}{why}",
            ref=ref,
            status=state.status,
            remedy=state.remedy or f"Run: tuneport {verb} {ref}",
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ref}>"

    def _repr_html_(self) -> str:
        """For a notebook: the ref, and where the job stands as far as its backend says so now."""
        try:
            return card(f"Job {self.ref}", self.state()._facts())  # noqa: SLF001 - of this module
        except (TuneportError, OSError) as error:
            return card(f"Job {self.ref}", [("state", str(error))])


@public(AUTHORS)
class Patience:
    """Asks about a job again and again while the fault is a passing one; the job itself goes on meanwhile."""

    def __init__(self, job: Job, deadline: float | None = None) -> None:
        self._job = job
        self._deadline = deadline
        self._lost: float | None = None
        self._times = self._odd = 0

    def ask(self, question: Callable[[], Found]) -> Found:
        """The answer. Raises WaitTimeout when the outage or the deadline is over, and any fault that does not pass."""
        while True:
            try:
                found = question()
            except TuneportError as error:
                if not error.passing:
                    raise
                self._bear(error)
            else:
                self._lost, self._times, self._odd = None, 0, 0
                return found

    def _bear(self, error: TuneportError) -> None:
        job, now = self._job, time.monotonic()
        self._lost = now if self._lost is None else self._lost
        self._times += 1
        self._odd += isinstance(error, BackendError)
        pause = job.poll_seconds * 2 ** min(self._times, 6)
        pause = min(max(pause, error.retry_after or 0.0), _LONGEST_PAUSE)
        ends = self._lost + job.outage_seconds
        if self._deadline is not None:
            ends = min(ends, self._deadline)
        if now >= ends or self._odd > _MOST_ODD:
            raise WaitTimeout(
                f"{job.ref} could not be asked about {self._times} times, for {now - self._lost:.0f} s: "
                f"{error.message}",
                remedy=f"The job itself goes on, as far as is known. Run in a while: tuneport watch {job.ref}",
            ) from error
        time.sleep(max(0.0, min(pause, ends - now)))
