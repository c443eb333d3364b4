"""Deployments that services bill, over all backends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from tuneport.doors import public
from tuneport.errors import TuneportError
from tuneport.loader import load, told_by

if TYPE_CHECKING:
    from tuneport.contract.hosting import Hosting

_log = logging.getLogger("tuneport")


@public()
def hosting(*, on_failure: Callable[[str, TuneportError | OSError], None] | None = None) -> list[Hosting]:
    """Every deployment at the services that can be used here, as they report it now; those that are billed come first.

    A backend that cannot answer leaves the others listed; `on_failure` gets its name and the error, which are logged as
    a warning otherwise.
    """
    report = on_failure or _log_failure
    found: list[Hosting] = []
    for name, backend in load().backends().items():
        try:
            found += told_by(backend, "listing its deployments", lambda one: one.hostings())
        except (TuneportError, OSError) as error:
            report(name, error)
    return sorted(found, key=lambda one: (not one.is_billed, one.name))


def _log_failure(name: str, error: TuneportError | OSError) -> None:
    _log.warning("The deployments at %s are not listed: %s", name, error)
