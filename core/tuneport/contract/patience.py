"""Retries questions about a job after a passing fault."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from tuneport.doors import AUTHORS, public
from tuneport.errors import BackendError, TuneportError, UnavailableError, WaitTimeout
from tuneport.refs import Ref

Found = TypeVar("Found")
_MOST_ODD = 5  # answers in a row that no outage explains
_LONGEST_PAUSE = 60.0


class Asked(Protocol):
    """A job, as far as patience needs it: its ref, and how long to wait, in seconds."""

    ref: Ref
    poll_seconds: float
    outage_seconds: float


@public(AUTHORS)
class Patience:
    """Retries questions about a job after a passing fault; the job itself continues meanwhile.

    An error is passing where it says so (`passing`). An UnavailableError is passing too once the job has answered: what
    it needs was there a moment ago.
    """

    def __init__(self, job: Asked, deadline: float | None = None) -> None:
        """`deadline`: when to stop, by `time.monotonic()`."""
        self._job = job
        self._deadline = deadline
        self._answered = False
        self._lost: float | None = None
        self._times = self._odd = 0

    def ask(self, question: Callable[[], Found]) -> Found:
        """The answer. Raises WaitTimeout after the job's `outage_seconds` or the deadline, and any fault that does not
        pass.
        """
        while True:
            try:
                found = question()
            except TuneportError as error:
                if not (error.passing or (self._answered and isinstance(error, UnavailableError))):
                    self._add_how_to_follow(error)
                    raise
                self._wait(error)
            else:
                self._answered = True
                self._lost, self._times, self._odd = None, 0, 0
                return found

    def _add_how_to_follow(self, error: TuneportError) -> None:
        if self._answered and isinstance(error, BackendError):
            then = f"The job continues, as far as is known. Follow it with: tuneport watch {self._job.ref}"
            error.remedy = f"{error.remedy.rstrip('.')}. {then}" if error.remedy else then

    def _wait(self, error: TuneportError) -> None:
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
                f"The status of {job.ref} could not be read in {self._times} attempts over {now - self._lost:.0f} s: "
                f"{error.message}",
                remedy=f"The job continues, as far as is known. Run in a while: tuneport watch {job.ref}",
            ) from error
        time.sleep(max(0.0, min(pause, ends - now)))
