"""Which faults of a start may be temporary, so that the server tries again."""

from __future__ import annotations

from typing import Any, NamedTuple

from tuneport.errors import BackendError, HomeError, TuneportError, UnavailableError

_PASSING = (UnavailableError, HomeError, ImportError, OSError, MemoryError)
_TRIES = 1_000_000  # until the job is canceled
_BACKEND_TRIES = 300  # of a service whose error says that it may pass: about a day
_UNKNOWN_TRIES = 5  # of a start that raises an unexpected error, which may be a bug
_SEE_LOG = "See the server log."


class Fault(NamedTuple):
    """Why a job could not be started, as reported by the process that tried."""

    tries: int
    """After how many tries the job fails: 1 for what cannot pass."""
    reason: str
    """What an event of the job says about a failed try. Details of other programs' errors are for the server log
    only.
    """
    code: str = "server_error"
    message: str = "The server could not start the training; see the server log."
    """The message of the job when it fails."""


def cause_of(error: Exception) -> Exception:
    """Return what a backend raised, if the border between core and plugins has turned it into a BackendError."""
    if isinstance(error, BackendError) and error.unexpected and isinstance(error.__cause__, Exception):
        return error.__cause__
    return error


def fault_of(error: Exception, *, checking: bool = False) -> Fault:
    """Return what a start's error means for the job. `checking`: the backend was available, and the rows were being
    checked.

    A missing package, network, key or device may come back, and a full disk or a broken installation may be repaired. A
    backend says whether its error may pass; if not, the start is tried a few times, as after any unexpected error. Bad
    rows and bad settings cannot pass: they raise other errors of tuneport.
    """
    error = cause_of(error)
    if not isinstance(error, TuneportError):  # its text is for the log only
        return Fault(_TRIES if isinstance(error, _PASSING) else _UNKNOWN_TRIES, _reason(error))
    tries = _TRIES if isinstance(error, _PASSING) else 1
    if isinstance(error, BackendError):
        tries = _BACKEND_TRIES if error.passing else _UNKNOWN_TRIES
    elif checking and isinstance(error, UnavailableError) and not error.passing:
        tries = _UNKNOWN_TRIES  # such as rows on which the tokenizer takes too long
    return Fault(tries, error.message, "training_not_started", error.message)


def timeout_fault(seconds: int) -> Fault:
    """The backend was asked, and did not answer in time."""
    message = f"The backend did not accept the job within {seconds:,} seconds."
    return Fault(_BACKEND_TRIES, message, "training_not_started", message)


def interrupted_fault(task: str) -> Fault:
    """The process ended without an answer."""
    return Fault(_UNKNOWN_TRIES, f"{task} was interrupted. {_SEE_LOG}")


def _reason(error: Any) -> str:
    if isinstance(error, ImportError):
        return "A package that training needs cannot be imported."
    if isinstance(error, MemoryError):
        return "The server is out of memory."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}."
    return _SEE_LOG
