"""The parrot, but starts fail as the file `fault` in its home says, if it exists. A file `fault.NAME` is for jobs with
that suffix.
"""

from __future__ import annotations

import errno
import os

import parrot

import tuneport
import tuneport.plugin

TUNEPORT_API = 1


class Jay(parrot.Parrot):
    name = "jay"

    def start(self, request: tuneport.plugin.TrainRequest) -> tuneport.Job:
        fault = tuneport.plugin.home("jay") / "fault"
        own = fault.with_suffix(f".{request.name.partition('-')[0]}")
        fault = own if own.exists() else fault
        match fault.read_text() if fault.exists() else "":
            case "import":
                from parrot import a_name_that_is_not_there  # noqa: F401 - the import fails as a torn installation does
            case "disk":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/secret")
            case "outage":
                raise tuneport.errors.UnavailableError("The service cannot be reached.")
            case "service":
                raise tuneport.errors.BackendError("The service answered 503.", passing=True)
            case "broken":
                raise tuneport.errors.BackendError("The service answered in another language.")
            case "home":
                raise tuneport.errors.HomeError("The ledger is locked.")
            case "memory":
                raise MemoryError
            case "rows":
                raise tuneport.errors.DataError("Row 3 is empty.")
            case "settings":
                raise tuneport.errors.UsageError("The rate is too high.")
            case "mistake":
                raise KeyError("layers")
        return super().start(request)

    def job(self, name: str) -> tuneport.Job:
        job = super().job(name)
        job.ref = tuneport.Ref("jay", name)
        return job


@tuneport.plugin.hookimpl
def tuneport_backends() -> list[tuneport.Backend]:
    return [Jay()]
