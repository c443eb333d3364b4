"""Whether backends can be used here and now; a backend that fails or hangs is reported and breaks nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tuneport.doors import AUTHORS, public
from tuneport.errors import TuneportError
from tuneport.loader.together import ask_together

if TYPE_CHECKING:
    from tuneport.contract.backend import Backend
    from tuneport.contract.capabilities import Availability

_T = TypeVar("_T")


@public(AUTHORS)
def availability(backend: Backend) -> Availability:
    """Whether a backend can be used here and now; where its check fails, it cannot, and the reason says so."""
    from tuneport.contract.capabilities import Availability

    try:
        return ask_backend(backend, "availability", lambda one: one.availability())
    except (TuneportError, OSError) as error:
        remedy = error.remedy if isinstance(error, TuneportError) else None
        return Availability(ready=False, reason=_reason(error), remedy=remedy)


def availabilities(backends: Iterable[Backend]) -> dict[str, Availability]:
    """The availability of several backends by name, asked side by side with a time limit."""
    from tuneport.contract.capabilities import Availability

    asked = list(backends)
    found = ask_together((one.name, one.name, partial(availability, one)) for one in asked)
    return {
        name: answer if isinstance(answer, Availability) else Availability(ready=False, reason=_reason(answer))
        for name, answer in found.items()
    }


def ask_backend(backend: Backend, method: str, ask: Callable[[Backend], _T]) -> _T:
    """What a backend answers. A foreign exception becomes a BackendError, also from a method that was put into the
    class later and is not behind the border.
    """
    from tuneport.contract.border import author_of, raise_clear

    try:
        return ask(backend)
    except Exception as error:
        if isinstance(error, TuneportError | OSError):
            raise
        raise_clear(backend.name, f"Backend.{method}", author_of(backend), error)


def _reason(error: TuneportError | OSError) -> str:
    return (error.message if isinstance(error, TuneportError) else str(error)).rstrip(".")
