"""How a request becomes a job's folder with a worker: once, whoever asks and whatever breaks."""

from __future__ import annotations

import platform
import shutil
import time
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from tuneport.errors import BackendError, TuneportError, UnavailableError, UsageError
from tuneport.plugin import Status, utc_now
from tuneport_torch.config import TorchSettings, check_method
from tuneport_torch.job import TorchJob
from tuneport_torch.jobs import devices
from tuneport_torch.jobs.folder import Folder, check_name, claim_intent, release_intent, write_json
from tuneport_torch.jobs.launch import FULL, launch, size
from tuneport_torch.jobs.owner import Owner
from tuneport_torch.lookup import resolve_base, stable_name

if TYPE_CHECKING:
    from tuneport.plugin import TrainRequest

_START_SECONDS = 60.0  # how long a start waits for another process that is writing the same job
_VERSIONED = ("tuneport", "torch", "transformers", "tokenizers", "safetensors", "peft")


def start(request: TrainRequest) -> TorchJob:
    """Write the job's folder, hand it to a detached worker, return. Asked again with the same intent, by whichever
    process, it returns the same job, and finishes a start that was cut off.
    """
    settings = cast("TorchSettings", request.settings)
    check_name(request.name)
    check_method(settings, request.options.method)
    _refuse_missing_device(settings)
    _refuse_missing_quantizer(settings)
    folder = Folder.named(claim_intent(request.intent, request.name))
    _refuse_anothers(folder, request.intent)
    job = TorchJob(folder)
    try:
        _begin_once(folder, request, job)
    except OSError as error:
        if error.errno not in FULL:
            raise
        free = shutil.disk_usage(folder.path.parent).free
        raise UnavailableError(
            f"The job could not be written: no room on the disk of {folder.path.parent} ({size(free)} free).",
            remedy="Free some space (`tuneport prune` says what tuneport keeps), then start again.",
        ) from error
    _refuse_anothers(folder, request.intent)
    return job


def _begin_once(folder: Folder, request: TrainRequest, job: TorchJob) -> None:
    """Begin the job, or wait for another process that is doing so."""
    deadline = time.monotonic() + _START_SECONDS
    while not (folder.exists and _begun(job)):
        if _begin(folder, request):
            return
        if time.monotonic() > deadline:
            raise BackendError(
                f"Another process has been starting {folder.ref} for {_START_SECONDS:g} s.",
                remedy="End that process, then start again: nothing is started twice.",
                passing=True,
            )
        time.sleep(0.05)


def _begin(folder: Folder, request: TrainRequest) -> bool:
    """Write what is not written yet and launch the worker; False where another process owns the folder."""
    folder.path.mkdir(mode=0o700, exist_ok=True)
    owner = Owner.take(folder)
    if owner is None:
        return False
    with owner:
        if not folder.exists:
            try:
                _write(folder, request, owner)
            except (OSError, TuneportError):  # no room, or a base that cannot be read
                shutil.rmtree(folder.path, ignore_errors=True)  # half a job would only take up room
                owner.let_go()
                raise
        if not owner.now.seq or owner.now.status in (
            Status.QUEUED,
            Status.INTERRUPTED,
        ):  # not cancelled meanwhile, say
            with suppress(UnavailableError):  # the job is there, interrupted, and says why
                launch(owner)
    return True


def _refuse_missing_device(settings: TorchSettings) -> None:
    kind = devices.pool(settings.device)
    if not devices.devices(kind):
        raise UnavailableError(
            f"There is no {kind} device on this machine that PyTorch could use.",
            remedy="Look at `tuneport doctor`, or train elsewhere: --set backends.torch.device=cpu",
        )


def _refuse_missing_quantizer(settings: TorchSettings) -> None:
    if settings.quantize != "none" and find_spec("bitsandbytes") is None:
        raise UnavailableError(
            f"backends.torch.quantize: {settings.quantize} needs the package bitsandbytes.",
            remedy="Run: pip install 'tuneport[quantized]' — or leave out quantize.",
        )


def _refuse_anothers(folder: Folder, intent: str) -> None:
    """Raise UsageError when the folder is another intent's job."""
    if folder.exists and folder.request()["intent"] != intent:
        release_intent(intent)
        raise UsageError(f"There is another job {folder.ref} already.", remedy="Start it under another name.")


def _begun(job: TorchJob) -> bool:
    """Whether a worker was ever there, or somebody has decided otherwise."""
    state = job.state()
    return state.status is not Status.INTERRUPTED or state.started is not None or bool(state.step)


def _write(folder: Folder, request: TrainRequest, owner: Owner) -> None:
    """The snapshot of the data, then the request, whose existence makes the job."""
    settings = cast("TorchSettings", request.settings)
    base = resolve_base(request.base.name, trust_remote_code=settings.trust_remote_code)
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
        "base_name": stable_name(request.base.name),
        "base_near": base.near,
        "base_fingerprint": base.fingerprint if base.present else None,
        "options": asdict(request.options),
        "settings": settings.model_dump(mode="json"),
        "metadata": dict(request.metadata),
        "data": data,
        "versions": _versions(),
        "created": utc_now().isoformat(),
    }
    owner.verify()
    write_json(folder.path / "request.json", written)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
