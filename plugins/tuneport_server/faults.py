"""Which faults of a start pass by themselves, so that the job waits and is tried again, and how long it waits."""

from __future__ import annotations

import time

from tuneport import BackendError, HomeError, TuneportError, UnavailableError

_PASSING = (UnavailableError, BackendError, HomeError, ImportError, OSError, MemoryError)
_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 300.0
_UNKNOWN_TRIES = 5  # of a start that raises what nobody expected, which may be a mistake in a program


class Retries:
    """When each job may be tried again: after 1 s, 2 s, 4 s and so on, at most 5 minutes apart."""

    def __init__(self) -> None:
        self._tries: dict[str, tuple[int, float]] = {}

    def due(self, id_: str) -> bool:
        """Whether the job may be tried now."""
        return time.monotonic() >= self._tries.get(id_, (0, 0.0))[1]

    def postpone(self, id_: str) -> int:
        """Count a failed try, and make the next one wait. How many tries have failed."""
        failed = self._tries.get(id_, (0, 0.0))[0] + 1
        wait = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(failed - 1, 20))
        self._tries[id_] = failed, time.monotonic() + wait
        return failed

    def forget(self, id_: str) -> None:
        """Try the job at once, and count from the beginning."""
        self._tries.pop(id_, None)


def passes(error: Exception, failed: int) -> bool:
    """Whether a job is tried again after its start raised this, for the `failed`-th time.

    A missing package, network, key or device may come back; a full disk, a service and a broken installation get
    repaired. Bad rows and bad settings stay as they are: those raise other errors of tuneport's. What is no error of
    tuneport's and none of these is tried a few times.
    """
    if isinstance(error, TuneportError | ImportError | OSError | MemoryError):
        return isinstance(error, _PASSING)
    return failed < _UNKNOWN_TRIES


def reason(error: Exception) -> str:
    """What a job's owner is told. Paths and names inside other programs' errors are for the server's log."""
    if isinstance(error, TuneportError):
        return error.message
    if isinstance(error, ImportError):
        return "A package that training needs cannot be imported."
    if isinstance(error, MemoryError):
        return "The server is out of memory."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}."
    return "The server's log says why."
