"""One training, wherever it runs."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from tuneport.contract import returns
from tuneport.contract.border import Call, guard
from tuneport.contract.capabilities import VERBS
from tuneport.contract.events import Event, Status
from tuneport.contract.model import Model
from tuneport.contract.patience import Patience
from tuneport.contract.requirements import require, require_type
from tuneport.contract.state import Checkpoint, JobState, Removal
from tuneport.doors import public
from tuneport.errors import (
    HomeError,
    JobCancelled,
    JobFailed,
    JobNotFinished,
    JobNotFound,
    TuneportError,
    UnsupportedError,
    WaitTimeout,
)
from tuneport.html import card
from tuneport.terminal.progress import Progress, show_progress
from tuneport.units import duration

if TYPE_CHECKING:
    from tuneport.contract.notebook import Notebook
    from tuneport.refs import Ref

EventSink = Callable[[Event], None]
_log = logging.getLogger("tuneport")


def _check_result(call: Call, value: Any) -> Any:
    """The model of a job that has succeeded."""
    job: Job = call.owner
    require_type(value, Model, "the model")
    require(value.ref == job.ref, f"the model's ref is {value.ref}, not {job.ref}")
    require(value.lineage is not None, "the model has no lineage")
    job.require_success()
    return value


def _refuse_verb(job: Job, method: str) -> None:
    if method in VERBS and job.verbs is not None and method not in job.verbs:
        can = f"It supports: {', '.join(sorted(job.verbs))}." if job.verbs else "It runs to its end."
        raise UnsupportedError(f"The backend {job.ref.backend!r} does not support {method}.", remedy=can)


_CHECKS = {
    "state": returns.check_state,
    "events": returns.check_events,
    "cancel": returns.check_nothing,
    "pause": returns.check_nothing,
    "resume": returns.check_nothing,
    "result": _check_result,
    "delete": returns.check_removal,
    "checkpoints": returns.check_checkpoints,
    "prune": returns.check_size,
}


@public()
class Job(ABC):
    """A handle on a training. It keeps nothing in memory that matters: any process can open the job again by its ref.

    A plugin writes `state`, `events`, `cancel`, `result` and `delete`, and `pause` and `resume` where its capabilities
    have the verbs. All of them are called in the thread that uses the handle, and several handles of one job may be in
    use at once. All may raise any TuneportError; any other exception becomes a BackendError that names the backend and
    the method.
    """

    ref: Ref
    notebook: Notebook | None = None
    """Attached by the core when it starts or opens the job; None for a job that this machine did not start."""
    verbs: frozenset[str] | None = None
    """Attached by the core too: those of cancel, pause and resume that the backend has. The others are refused."""
    poll_seconds: float = 5.0
    """How long `wait` and `follow` pause between two calls of `state`."""
    outage_seconds: float = 1800.0
    """How long `wait` and `follow` retry a service that cannot be reached."""
    delivers_events: ClassVar[bool] = False
    """True where a process of the backend's own hands the events to observers. Otherwise `wait` and `follow` do."""
    final_state: JobState | None = None
    """Set by the core when this handle has seen a terminal status, which stays."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        guard(cls, "Job", _CHECKS, _refuse_verb)

    @abstractmethod
    def state(self) -> JobState:
        """The job's status and progress now.

        Called by `wait` and `follow` every `poll_seconds`, and once for each live job by `tuneport jobs`. May use the
        network; should answer within about 10 seconds. Raises UnavailableError while the service cannot be reached: the
        caller retries and says that the job continues. A status that is terminal stays.
        """

    @abstractmethod
    def events(self, after: int = 0) -> Iterable[Event]:
        """What has happened so far, in order, from the event that follows number `after`.

        Numbers start at 1 and have no gaps; the same event has the same number in every process (`Notebook.append`
        numbers events of a service). Called after each `state` by `wait` and `follow`, and for reports. May use the
        network, as `state` may.
        """

    @abstractmethod
    def cancel(self) -> None:
        """End the job for good. May be repeated; does nothing to a job that is over.

        Called by users and by the server plugin. May use the network and may return before the job has ended, which
        then is `cancelling` or still running.
        """

    @abstractmethod
    def result(self) -> Model:
        """The tuned model of a job that succeeded. Raises a JobError for any other; `require_success` does that.

        Called once after `wait`, and by `open_model`. Loads nothing: the model loads when it first answers.
        """

    @abstractmethod
    def delete(self, *, dry_run: bool = False) -> Removal:
        """Remove what the backend keeps of the job, its model included. Returns what was (or would be) removed and what
        stays. A `dry_run` changes nothing.

        Called only for a job that is over or idle. Raises JobNotFinished for a job that still runs. May be repeated
        after an interruption, and may use the network.
        """

    def pause(self) -> None:
        """Stop after the current step, so that `resume` continues from there. Called where the backend has the verb."""
        raise UnsupportedError(f"{self.ref} cannot be paused: its backend does not support it.")

    def resume(self) -> None:
        """Continue a paused or interrupted job; does nothing to one that runs. Called where the backend has the verb.

        The status must not be idle (paused, interrupted) when this returns: `wait` would end at once.
        """
        raise UnsupportedError(f"{self.ref} cannot be resumed: its backend does not support it.")

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that exist, oldest first. Called by `tuneport show`; may use the network."""
        return []

    def prune(self, *, dry_run: bool = False) -> int:
        """Remove what a job that is over no longer needs, such as its checkpoints; returns how many bytes that frees.

        Called by `tuneport prune` for each job that is over, with `dry_run` first.
        """
        del dry_run
        return 0

    @property
    def status(self) -> Status:
        """The job's status now."""
        return self.state().status

    def metrics(self) -> list[dict[str, Any]]:
        """The data of all metric events so far, in order."""
        return [dict(event.data) for event in self.events() if event.kind == "metric"]

    def follow(self, after: int = 0) -> Iterator[Event]:
        """Events from number `after` on as they happen, until the job is over or waits for someone to act.

        Retries after a passing fault, as `wait` does.
        """
        patience = Patience(self)
        while True:
            state = patience.ask(self.state)
            for event in patience.ask(lambda: list(self.events(after))):  # noqa: B023 - called at once
                after = event.seq
                yield event
            self._deliver()
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
        """Wait for the tuned model; `timeout` in seconds. The job continues when you stop waiting.

        `on_event` gets every event from number `after` on. A terminal and a notebook show the progress, unless
        `progress` is False or `on_event` is given. A passing fault (no connection, a busy service) is retried for
        `outage_seconds`, with pauses that grow or that the service requests. Raises JobFailed, JobCancelled,
        JobNotFinished (paused, interrupted, unconfirmed) or WaitTimeout.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        quiet = on_event is not None and progress is None
        with show_progress(f"Waiting for {self.ref}", False if quiet else progress) as tell:
            return self._wait(deadline, timeout or 0.0, on_event, after, tell)

    def _wait(
        self, deadline: float | None, timeout: float, on_event: EventSink | None, after: int, tell: Progress | None
    ) -> Model:
        patience = Patience(self, deadline)
        while True:
            state = patience.ask(self.state)
            if tell is not None:
                left = f", {duration(state.seconds_left)} left" if state.seconds_left else ""
                tell(state.step, state.total_steps or 0, f"{state.status}{left}")
            if on_event is not None or not self.delivers_events:
                for event in patience.ask(lambda: list(self.events(after))):  # noqa: B023 - called at once
                    after = event.seq
                    if on_event is not None:
                        on_event(event)
                self._deliver()
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
                        remedy=f"The job continues. Wait again, or run: tuneport watch {self.ref}",
                    )
            time.sleep(pause)

    def require_success(self) -> None:
        """Raise JobFailed, JobCancelled or JobNotFinished unless the job has succeeded; for a plugin's `result`."""
        state = self.state()
        if state.status.terminal or state.status.idle:
            self._raise_unless_succeeded(state)
        else:
            raise JobNotFinished(
                f"{self.ref} is {state.status}: its model does not exist yet.",
                ref=str(self.ref),
                status=state.status,
                remedy=f"Run: tuneport watch {self.ref}",
            )

    def _deliver(self) -> None:
        if self.notebook is None or self.delivers_events:
            return
        try:
            broken = self.notebook.deliver(self)
        except (HomeError, JobNotFound) as error:  # a full disk must not keep the model from the caller
            _log.warning("Could not deliver the events of %s to the observers: %s", self.ref, error)
            return
        for observer, reason in broken.items():
            _log.warning("The observer %s failed: %s", observer, reason)

    def _keep(self, state: JobState) -> None:
        if self.notebook is None:
            return
        try:
            self.notebook.keep(state)
        except HomeError as error:  # a full disk must not keep the model from the caller
            _log.warning("Could not save the state of %s: %s", self.ref, error)
        except JobNotFound:  # another process has deleted it
            return

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
        """For a notebook: the ref and, as far as its backend answers now, the state."""
        try:
            return card(f"Job {self.ref}", self.state().facts())
        except (TuneportError, OSError) as error:
            return card(f"Job {self.ref}", [("state", str(error))])
