"""The hooks that a plugin may implement: hooks announce, objects act."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from tuneport.contract.backend import Backend
    from tuneport.contract.events import Event
    from tuneport.contract.job import Job
    from tuneport.dataset import Dataset

API = 1
"""The number that a plugin's literal `TUNEPORT_API` must equal."""

hookspec = pluggy.HookspecMarker("tuneport")
hookimpl = pluggy.HookimplMarker("tuneport")


@hookspec
def tuneport_backends() -> list[Backend]:  # type: ignore[empty-body]  # a specification has no body
    """Announce backends. Called once, when a backend is first wanted."""


@hookspec
def tuneport_open_dataset(source: object) -> Dataset | None:
    """Open a source that tuneport itself does not know, such as an address of one's own scheme; None: not mine."""


@hookspec
def tuneport_on_event(job: Job, event: Event) -> None:
    """See an event of any job: at least once, in order. Loggers live here."""


@hookspec
def tuneport_commands(app: Any) -> None:
    """Add commands to the `typer.Typer` application of the command line. Called where no command of tuneport's own is
    named, as by `tuneport --help`.
    """
