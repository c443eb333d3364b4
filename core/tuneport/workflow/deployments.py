"""Deployments that services bill, over all backends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tuneport.doors import public
from tuneport.errors import TuneportError
from tuneport.loader import ask_backend, ask_together, load

if TYPE_CHECKING:
    from tuneport.contract.hosting import Hosting

_log = logging.getLogger("tuneport")


@public()
def hosting(*, on_failure: Callable[[str, TuneportError | OSError], None] | None = None) -> list[Hosting]:
    """Every deployment at the services that can be used here, as they report it now; those that are billed come first.

    Backends are asked side by side. One that fails, or does not answer in time, leaves the others listed; `on_failure`
    gets its name and the error, which are logged as a warning otherwise.
    """
    report = on_failure or _log_failure
    found: list[Hosting] = []
    answers = ask_together(
        (name, name, partial(ask_backend, backend, "hostings", lambda one: one.hostings()))
        for name, backend in load().backends().items()
    )
    for name, answer in answers.items():
        if isinstance(answer, Exception):
            report(name, answer)
        else:
            found += answer
    return sorted(found, key=lambda one: (not one.is_billed, one.name))


def _log_failure(name: str, error: TuneportError | OSError) -> None:
    _log.warning("The deployments at %s are not listed: %s", name, error)
