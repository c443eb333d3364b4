"""A backend like a hosted one whose responses to starts are lost: only a search shows whether a job exists. It trains
`gray` like the parrot, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import parrot

import tuneport
import tuneport.plugin

TUNEPORT_API = 1


class Heron(parrot.Parrot):
    name = "heron"

    def start(self, request: tuneport.plugin.TrainRequest) -> tuneport.Job:
        if request.base.name == "gray":
            super().start(request)
        (tuneport.plugin.home("heron") / request.name).touch()
        lost = Lost(request.name)
        raise tuneport.errors.JobNotFinished(
            f"{lost.ref} may have been started.", ref=str(lost.ref), status=tuneport.Status.UNCONFIRMED
        )

    def job(self, name: str) -> tuneport.Job:
        if (tuneport.plugin.home("heron") / name).exists():
            return Lost(name)
        job = super().job(name)
        job.ref = tuneport.Ref("heron", name)
        return job

    def settle(self, name: str) -> tuneport.Job:
        if not (tuneport.plugin.home("parrot") / name).exists():
            raise tuneport.errors.JobNotFound(f"No list shows a job {name}.")
        (tuneport.plugin.home("heron") / name).unlink()
        return self.job(name)

    def check_base(self, base: str) -> None:
        del base


class Lost(tuneport.Job):
    """A job that may exist."""

    def __init__(self, name: str) -> None:
        self.ref = tuneport.Ref("heron", name)

    def state(self) -> tuneport.JobState:
        return tuneport.JobState(status=tuneport.Status.UNCONFIRMED)

    def events(self, after: int = 0) -> Iterable[tuneport.Event]:
        return ()

    def cancel(self) -> None:
        self.require_success()

    def result(self) -> NoReturn:
        self.require_success()
        raise AssertionError("it has not succeeded")

    def delete(self, *, dry_run: bool = False) -> tuneport.Removal:
        return tuneport.Removal()


@tuneport.plugin.hookimpl
def tuneport_backends() -> list[tuneport.Backend]:
    return [Heron()]
