"""The `torch:` backend: what it can do, and how a request becomes a job's folder with a worker."""

from __future__ import annotations

import platform
import time
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from tuneport import (
    Availability,
    Backend,
    BackendError,
    BaseInfo,
    Capabilities,
    JobNotFound,
    ModelNotFound,
    Preference,
    Ref,
    Status,
    UnavailableError,
    UsageError,
    utc_now,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneport import DataProfile, Diagnostic, Example, Piece, Plan, TrainRequest
    from tuneport_torch.bases import Base
    from tuneport_torch.config import TorchSettings
    from tuneport_torch.job import TorchJob
    from tuneport_torch.jobs.folder import Folder
    from tuneport_torch.jobs.owner import Owner
    from tuneport_torch.model import TorchModel
    from tuneport_torch.text.render import Renderer

_START_SECONDS = 60.0  # how long a start waits for another process that is writing the same job
_VERSIONED = ("tuneport", "torch", "transformers", "tokenizers", "safetensors", "peft")


class TorchBackend(Backend):
    """Trains on this machine with PyTorch, in a process of its own per job."""

    name = "torch"
    packages = ("torch", "transformers", "peft", "safetensors", "tokenizers", "gguf", "huggingface_hub", "jinja2")
    install = "pip install 'tuneport[torch]'"

    def __init__(self) -> None:
        self.capabilities = Capabilities(
            methods=frozenset({"sft", "dpo", "orpo"}),
            verbs=frozenset({"cancel", "pause", "resume"}),
            learning_rate="absolute",
            local=True,
            auto_epochs="3; 4 to 10 for fewer than about 8,500 tokens; 2 above 5 million, 1 above 20 million",
        )

    @property
    def config_class(self) -> type[TorchSettings]:
        """The settings under `backends.torch`."""
        from tuneport_torch.config import TorchSettings

        return TorchSettings

    def start(self, request: TrainRequest) -> TorchJob:
        """Write the job's folder, hand it to a detached worker, return. Asked again with the same intent, by whichever
        process, it returns the same job, and finishes a start that was cut off.
        """
        from tuneport_torch.config import check_method
        from tuneport_torch.job import TorchJob
        from tuneport_torch.jobs.folder import Folder, check_name, claim_intent
        from tuneport_torch.jobs.launch import FULL, size

        check_name(request.name)
        check_method(cast("TorchSettings", request.settings), request.options.method)
        _refuse_missing_device(cast("TorchSettings", request.settings))
        _refuse_missing_quantizer(cast("TorchSettings", request.settings))
        folder = Folder.named(claim_intent(request.intent, request.name))
        _refuse_anothers(folder, request.intent)
        job = TorchJob(folder)
        deadline = time.monotonic() + _START_SECONDS
        try:
            while not (folder.exists and _begun(job)):
                if self._begin(folder, request):
                    break
                if time.monotonic() > deadline:
                    raise BackendError(
                        f"Another process has been starting {folder.ref} for {_START_SECONDS:g} s.",
                        remedy="End that process, then start again: nothing is started twice.",
                    )
                time.sleep(0.05)
        except OSError as error:
            if error.errno not in FULL:
                raise
            import shutil

            free = shutil.disk_usage(folder.path.parent).free
            raise UnavailableError(
                f"The job could not be written: no room on the disk of {folder.path.parent} ({size(free)} free).",
                remedy="Free some space (`tuneport prune` says what tuneport keeps), then start again.",
            ) from error
        _refuse_anothers(folder, request.intent)
        return job

    def job(self, name: str) -> TorchJob:
        """The job of that name, from any process; raises JobNotFound."""
        from tuneport_torch.job import TorchJob
        from tuneport_torch.jobs.folder import Folder

        folder = Folder.named(name)
        if not folder.exists:
            raise JobNotFound(f"torch has no job {name!r}.", remedy="`tuneport jobs` lists the jobs.")
        return TorchJob(folder)

    def model(self, name: str) -> TorchModel:
        """A tuned model by its job's name, else a base by alias, hub id or path; loaded when it is first used."""
        from tuneport_torch.bases import resolve
        from tuneport_torch.model import TorchModel

        if _is_job(name):
            return self.job(name).result()
        return TorchModel(Ref("torch", name), resolve(name))

    def plan(self, request: TrainRequest) -> Plan:
        """What the training would do and need; counts tokens where the tokenizer is here, else estimates them."""
        from tuneport_torch.plan import make_plan

        return make_plan(request, _base(request.base.name), self.profile(request.base.name))

    def profile(self, base: str) -> DataProfile:
        """What that base takes: its longest row, and its own tokenizer and template to count, show and prove rows."""
        from tuneport import DataProfile

        facts = _base(base).facts
        reading = _Reading(base)
        return DataProfile(
            shapes={
                "sft": frozenset({"conversation", "completion"}),
                "dpo": frozenset({"preference"}),
                "orpo": frozenset({"preference"}),
            },
            max_tokens=facts.max_positions,
            count_tokens=reading.count_tokens,
            preview=reading.preview,
            check_row=reading.check_row,
        )

    def check_base(self, base: str) -> None:
        """Raise ModelNotFound or UnavailableError when that base cannot be trained; asks no network."""
        _base(base)

    def bases(self) -> list[BaseInfo]:
        """The aliases, and whether each is on this machine."""
        from tuneport_torch.bases import ALIASES, resolve

        infos = []
        for alias in ALIASES:
            try:
                base = resolve(alias)
            except (UnavailableError, ModelNotFound) as error:
                infos.append(BaseInfo(ref=Ref("torch", alias), description=error.message, present=False))
            else:
                infos.append(BaseInfo(ref=Ref("torch", alias), description=base.description, present=base.present))
        return infos

    def missing(self, name: str) -> str:
        """The base under a tuned model, where it is gone."""
        from tuneport_torch.bases import missing_base
        from tuneport_torch.jobs.folder import Folder

        lost = missing_base(Folder.named(name).model)
        return f"The base {lost} of this model was deleted or moved: it cannot be loaded." if lost else ""

    def availability(self) -> Availability:
        """Whether the packages are there; `details` say on what would be trained."""
        packages = super().availability()
        if not packages.ready:
            return packages
        from tuneport_torch.jobs import devices

        kind = devices.pool("auto")
        found = devices.devices(kind)
        return Availability(
            ready=True,
            details={
                "device": kind,
                "devices": [device.model for device in found],
                "memory_bytes": sum(device.memory for device in found),
                "threads": devices.threads(),
                "torch": version("torch"),
            },
        )

    def _begin(self, folder: Folder, request: TrainRequest) -> bool:
        """Write what is not written yet and launch the worker; False where another process owns the folder."""
        from tuneport_torch.jobs import devices
        from tuneport_torch.jobs.launch import launch
        from tuneport_torch.jobs.owner import Owner

        folder.path.mkdir(mode=0o700, exist_ok=True)
        owner = Owner.take(folder)
        if owner is None:
            return False
        with owner:
            if not folder.exists:
                _write(folder, request, owner)
            if not owner.now.seq or owner.now.status in (
                Status.QUEUED,
                Status.INTERRUPTED,
            ):  # not cancelled meanwhile, say
                launch(owner, devices.pool(cast("TorchSettings", request.settings).device))
        return True


class _Reading:
    """How a base reads rows; its tokenizer is loaded when first needed. Can be sent to other processes."""

    def __init__(self, base: str) -> None:
        self._base = base

    def count_tokens(self, examples: Sequence[Example]) -> list[int]:
        from tuneport_torch.text import pairs

        return pairs.longest(_renderer(self._base), examples)

    def preview(self, example: Example) -> list[Piece]:
        from tuneport_torch.text import pairs

        renderer = _renderer(self._base)
        return pairs.pieces(renderer, example) if isinstance(example, Preference) else renderer.pieces(example)

    def check_row(self, example: Example) -> list[Diagnostic]:
        from tuneport_torch.text import pairs

        renderer = _renderer(self._base)
        return pairs.diagnose(renderer, example) if isinstance(example, Preference) else renderer.diagnose(example)


@lru_cache(maxsize=4)
def _renderer(name: str) -> Renderer:
    from tuneport_torch.text.render import Renderer
    from tuneport_torch.text.tokens import load_text

    return Renderer(load_text(_base(name)))


def _base(name: str, *, trust_remote_code: bool = False) -> Base:
    """The base that a name means here: one of our tuned models, an alias, a hub id or a path."""
    from tuneport_torch.bases import resolve

    return resolve(_base_name(name), trust_remote_code=trust_remote_code)


def _base_name(name: str) -> str:
    """The name that means the same from any working folder."""
    from tuneport_torch.jobs.folder import Folder
    from tuneport_torch.jobs.launch import absolute

    if not _is_job(name):
        return absolute(name)
    folder = Folder.named(name)
    if not folder.model.exists():
        raise ModelNotFound(f"{folder.ref} has no model yet.", remedy=f"See how it stands: tuneport show {folder.ref}")
    return str(folder.model)


def _is_job(name: str) -> bool:
    from tuneport_torch.bases import ALIASES
    from tuneport_torch.jobs.folder import NAME, Folder

    return name not in ALIASES and NAME.match(name) is not None and Folder.named(name).exists


def _refuse_missing_device(settings: TorchSettings) -> None:
    from tuneport_torch.jobs import devices

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
    from tuneport_torch.jobs.folder import release_intent

    if folder.exists and folder.request()["intent"] != intent:
        release_intent(intent)
        raise UsageError(f"There is another job {folder.ref} already.", remedy="Start it under another name.")


def _begun(job: TorchJob) -> bool:
    """Whether a worker was ever there, or somebody has decided otherwise."""
    state = job.state()
    return state.status is not Status.INTERRUPTED or state.started is not None or bool(state.step)


def _write(folder: Folder, request: TrainRequest, owner: Owner) -> None:
    """The snapshot of the data, then the request, whose existence makes the job."""
    from dataclasses import asdict

    from tuneport_torch.jobs.folder import write_json

    settings = cast("TorchSettings", request.settings)
    base = _base(request.base.name, trust_remote_code=settings.trust_remote_code)
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
        "base_name": _base_name(request.base.name),
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
