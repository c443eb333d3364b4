"""Which faults of a start pass by themselves, so that the job waits and is tried again, and how long it waits."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from tuneport.errors import BackendError, HomeError, TuneportError, UnavailableError

_PASSING = (UnavailableError, HomeError, ImportError, OSError, MemoryError)
_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 300.0
_TRIES = 1_000_000  # as long as the job is wanted
_BACKEND_TRIES = 300  # of a service that breaks its promises and says that this may pass: about a day
_UNKNOWN_TRIES = 5  # of a start that raises what nobody expected, which may be a mistake in a program
_LOG_SAYS_WHY = "The server's log says why."


class Retries:
    """When each job may be tried again: after 1 s, 2 s, 4 s and so on, at most 5 minutes apart."""

    def __init__(self) -> None:
        self._tries: dict[str, tuple[int, float]] = {}

    def waiting(self) -> list[str]:
        """The jobs that may not be tried yet."""
        now = time.monotonic()
        return [id_ for id_, (_, then) in list(self._tries.items()) if now < then]

    def postpone(self, id_: str) -> int:
        """Count a failed try, and make the next one wait. How many tries have failed."""
        failed = self._tries.get(id_, (0, 0.0))[0] + 1
        wait = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(failed - 1, 20))
        self._tries[id_] = failed, time.monotonic() + wait
        return failed

    def forget(self, id_: str) -> None:
        """Try the job at once, and count from the beginning."""
        self._tries.pop(id_, None)


class Fault(NamedTuple):
    """What kept a job from being started, as the process that tried says it."""

    tries: int
    """After how many tries the job fails: 1 for what stays as it is."""
    reason: str
    """What the job's owner is told of a try. Paths and names inside other programs' errors are for the server's log."""
    code: str = "server_error"
    message: str = "The server could not start the training; its log says why."
    """What the job fails with in the end."""


def fault_of(error: Exception, *, checking: bool = False) -> Fault:
    """What a start's error means for the job. `checking`: its rows were being checked, and the backend was there.

    A missing package, network, key or device may come back; a full disk and a broken installation get repaired. A
    backend says whether its error passes; if not, it is tried a few times, like what is no error of tuneport's and none
    of these. Bad rows and bad settings stay as they are: those raise other errors of tuneport's.
    """
    if not isinstance(error, TuneportError):
        return Fault(_TRIES if isinstance(error, _PASSING) else _UNKNOWN_TRIES, _reason(error))
    tries = _TRIES if isinstance(error, _PASSING) else 1
    if isinstance(error, BackendError):
        tries = _BACKEND_TRIES if error.passing else _UNKNOWN_TRIES
    elif checking and isinstance(error, UnavailableError) and not error.passing:
        tries = _UNKNOWN_TRIES  # such as rows that take all the time that their tokenizer has
    return Fault(tries, error.message, "training_not_started", error.message)


def late(seconds: int) -> Fault:
    """The backend was asked, and nothing came of it in that time."""
    said = f"The backend did not take the job within {seconds:,} seconds."
    return Fault(_BACKEND_TRIES, said, "training_not_started", said)


def killed(doing: str) -> Fault:
    """The process ended without a word."""
    return Fault(_UNKNOWN_TRIES, f"{doing} was cut off. {_LOG_SAYS_WHY}")


def _reason(error: Any) -> str:
    if isinstance(error, ImportError):
        return "A package that training needs cannot be imported."
    if isinstance(error, MemoryError):
        return "The server is out of memory."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}."
    return _LOG_SAYS_WHY
