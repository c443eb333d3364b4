"""How a request becomes a job's folder with a worker: once, however often it is made and whatever fails."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tuneport.contract.events import Status, utc_now
from tuneport.errors import BackendError, TuneportError, UnavailableError, UsageError
from tuneport.local.disk import FULL
from tuneport.local.folder import Folder, write_record
from tuneport.local.intents import claim_intent, release_intent
from tuneport.local.job import LocalJob
from tuneport.local.launch import launch
from tuneport.local.owner import Owner
from tuneport.units import size
from tuneport.versions import installed_versions

if TYPE_CHECKING:
    from tuneport.contract.request import TrainRequest
    from tuneport.local.trainer import Trainer

_START_SECONDS = 60.0  # how long a start waits for another process that is writing the same job


def start(trainer: Trainer, request: TrainRequest) -> LocalJob:
    """Write and launch the job of an intent, unless that is done; see `LocalBackend.start`."""
    if not Folder.can_have(request.name):
        raise UsageError(
            f"A job cannot be named {request.name!r}.", remedy="Use letters, digits, dots, hyphens and underscores."
        )
    trainer.check_request(request)
    folder = Folder.named(trainer.name, claim_intent(trainer.name, request.intent, request.name))
    _refuse_other_job(folder, request.intent)
    job = LocalJob(trainer, folder)
    try:
        _start_once(folder, trainer, request, job)
    except OSError as error:
        if error.errno not in FULL:
            raise
        free = shutil.disk_usage(folder.path.parent).free
        raise UnavailableError(
            f"The job could not be written: no room on the disk of {folder.path.parent} ({size(free)} free).",
            remedy="Free some space (`tuneport prune` lists what tuneport keeps), then start again.",
        ) from error
    _refuse_other_job(folder, request.intent)
    return job


def _start_once(folder: Folder, trainer: Trainer, request: TrainRequest, job: LocalJob) -> None:
    """Start the job, or wait for another process that is doing so."""
    deadline = time.monotonic() + _START_SECONDS
    while not (folder.exists and _has_started(job)):
        if _write_and_launch(folder, trainer, request):
            return
        if time.monotonic() > deadline:
            raise BackendError(
                f"Another process has been starting {folder.ref} for {_START_SECONDS:g} s.",
                remedy="End that process, then start again: nothing is started twice.",
                passing=True,
            )
        time.sleep(0.05)


def _write_and_launch(folder: Folder, trainer: Trainer, request: TrainRequest) -> bool:
    """Write what is not written yet and launch the worker; False where another process owns the folder."""
    folder.path.mkdir(mode=0o700, exist_ok=True)
    owner = Owner.take(folder)
    if owner is None:
        return False
    with owner:
        if not folder.exists:
            try:
                write_job(trainer, request, owner)
            except (OSError, TuneportError):  # no room, or a base that cannot be read
                shutil.rmtree(folder.path, ignore_errors=True)  # an incomplete job would only take up room
                owner.let_go()
                raise
        if not owner.now.seq or owner.now.status in (Status.QUEUED, Status.INTERRUPTED):  # not cancelled meanwhile
            with suppress(UnavailableError):  # the job is there, interrupted, and its message has the reason
                launch(owner, trainer)
    return True


def _refuse_other_job(folder: Folder, intent: str) -> None:
    """Raise UsageError when the folder belongs to another intent."""
    if folder.exists and folder.request()["intent"] != intent:
        release_intent(folder.backend, intent)
        raise UsageError(f"There is already another job {folder.ref}.", remedy="Start it under another name.")


def _has_started(job: LocalJob) -> bool:
    """Whether there was ever a worker, or someone has ended the job."""
    state = job.state()
    return state.status is not Status.INTERRUPTED or state.started is not None or bool(state.step)


def write_job(trainer: Trainer, request: TrainRequest, owner: Owner) -> None:
    """Write the snapshot of the data, then the request, whose existence makes the job."""
    folder = owner.folder
    described = trainer.describe_request(request)
    data: dict[str, Any] = {}
    for part, rows in (("train", request.train), ("validation", request.validation)):
        if rows is not None:
            count, fingerprint = folder.write_rows(part, rows)
            data[part] = {"rows": count, "fingerprint": fingerprint}
    written = {
        "version": 1,
        "name": folder.name,
        "intent": request.intent,
        "base": str(request.base),
        **described,
        "options": asdict(request.options),
        "settings": request.settings.model_dump(mode="json"),
        "metadata": dict(request.metadata),
        "data": data,
        "versions": installed_versions(*trainer.versioned),
        "created": utc_now().isoformat(),
    }
    owner.verify()
    write_record(folder.path / "request.json", written)
