"""One job from its folder to its model: rows, device, weights, loop, model."""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuneport.errors import JobFailed, ModelNotFound, TuneportError, UnavailableError, UnsupportedError
from tuneport.plugin import Lineage, Status, utc_now
from tuneport_torch import bases, export, rates
from tuneport_torch.bases.files import DamagedModel
from tuneport_torch.bases.loading import load_model
from tuneport_torch.choices import choices
from tuneport_torch.config import Resolved, TorchSettings, resolve_epochs
from tuneport_torch.engine import footprint
from tuneport_torch.jobs.failures import may_pass
from tuneport_torch.text.load import load_codec
from tuneport_torch.text.rows import TrainingData, read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tuneport_torch.bases import Base
    from tuneport_torch.engine.checkpoint import Store
    from tuneport_torch.jobs.devices import Device
    from tuneport_torch.protocols import TrainingWorker
    from tuneport_torch.text.codec import Codec


def train_job(worker: TrainingWorker) -> Literal["pause", "cancel"] | None:
    """Train the worker's job, from the newest whole checkpoint if there is one; why it stopped early, or None."""
    folder, request = worker.folder, worker.folder.request()
    settings = TorchSettings.model_validate(request["settings"])
    if (folder.model / bases.TUNED).exists():  # killed after the last act and before the last word
        _succeed(worker, settings)
        return None
    started = worker.owner.now.started or utc_now()
    worker.stage(Status.PREPARING, "Reading the rows.", started=started)
    base = _base(request, settings)
    codec = load_codec(base)
    limit = base.facts.max_positions if settings.max_tokens == "auto" else settings.max_tokens
    rows = read_rows(worker, request, codec, limit)
    device = worker.device(settings.device, 1 if settings.slots == "auto" else settings.slots)
    worker.stage(Status.PREPARING, f"Loading {base.description} on {device.model}.", queue_position=None)
    settings = _fitting(worker, _on_device(worker, settings, device), base, device, rows)
    settings = _compiled(worker, settings, base, device, rows, request["options"]["epochs"])

    from tuneport_torch.engine.checkpoint import Store
    from tuneport_torch.engine.loop import Run, train

    store = Store(folder.checkpoints, keep=settings.keep_checkpoints)
    _tell_untold(worker, store)
    if worker.owner.last_step_told > 0 and not store.list():
        worker.emit("log", "There is no checkpoint yet: training begins anew.")
    run = Run(
        model=_model(worker, base),
        train=rows.train,
        validation=rows.validation,
        settings=settings,
        method=request["options"]["method"],
        epochs=request["options"]["epochs"],
        seed=request["options"]["seed"] or 0,
        store=store,
        emit=worker.emit,
        should_stop=worker.should_stop,
        on_plan=lambda plan, dtype: _tell_choices(worker, base, device, plan, str(dtype), compiled=settings.compile),
    )
    what = "rows" if run.method == "sft" else "pairs"
    worker.stage(Status.RUNNING, f"Training on {len(rows.train)} {what}, {rows.tokens} tokens an epoch.")
    with rates.measured(base, settings, device, folder.name) as measured:
        result = train(run)
        measured.tokens, measured.seconds_aside = worker.tokens_trained, result.seconds_aside
    _tell_memory(worker, settings.device)
    if result.stopped in ("pause", "cancel"):
        return result.stopped
    worker.stage(Status.PREPARING, "Writing the model.")
    lineage = _lineage(worker, request, codec, rows)
    export.save(folder.model, run.model, base=base, codec=codec, lineage=lineage, style=rows.style)
    codec.close()
    del run
    _succeed(worker, settings)
    return None


def _base(request: Mapping[str, Any], settings: TorchSettings) -> Base:
    """The base on this machine, and the same one as when the job was started."""
    try:
        near, trust = request.get("base_near"), settings.trust_remote_code
        base = bases.fetch(bases.resolve(request["base_name"], trust_remote_code=trust, near=near))
    except ModelNotFound as error:  # it was there, or might be, when the job was started
        raise UnavailableError(error.message, remedy="Put it back.") from error
    wanted = request["base_fingerprint"]
    if wanted is not None and not base.matches(wanted):
        raise UnavailableError(
            f"{base.name} is no longer the model that this job was started with: its files have changed.",
            remedy="Bring the old files back, or start the run again: tuneport run … --again",
        )
    return base


def _model(worker: TrainingWorker, base: Base) -> PreTrainedModel:
    """The base with its weights. Files that make no model end the job: it could not go on with others."""
    try:
        return load_model(base)
    except DamagedModel as error:
        if may_pass(error):
            raise
        raise JobFailed(error.message, ref=worker.folder.ref, remedy=error.remedy) from error


def _on_device(worker: TrainingWorker, settings: TorchSettings, device: Device) -> TorchSettings:
    """Settings with the device from the queue and, so that a resumed job computes the same, the first run's threads."""
    kind, _, index = device.name.partition(":")
    if index:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[int(index)] if visible else index
    import torch

    if kind == "cuda" and not torch.cuda.is_available():
        raise UnavailableError(
            "The NVIDIA driver lists a GPU, but PyTorch cannot use it.",
            remedy=f"Python says why: python -c 'import torch; torch.cuda.init()' (torch {torch.__version__})",
        )
    known = worker.owner.now.details.get("threads")
    threads = known or (torch.get_num_threads() if settings.threads == "auto" else settings.threads)
    torch.set_num_threads(threads)
    facts = {"device": device.name, "device_model": device.model, "threads": threads}
    worker.owner.progress(now=True, details={**worker.owner.now.details, **facts})
    return settings.model_copy(update={"device": kind, "threads": threads})


def _fitting(
    worker: TrainingWorker, settings: TorchSettings, base: Base, device: Device, rows: TrainingData
) -> TorchSettings:
    """Settings that compute activations twice where the longest row would not fit otherwise."""
    if not footprint.needs_recompute(base.facts, settings, settings.device, device.memory, rows.longest):
        return settings
    worker.emit("log", f"Activations are computed twice instead of kept: they would not fit into {device.model}.")
    return settings.model_copy(update={"activation_checkpointing": True})


def _compiled(
    worker: TrainingWorker,
    settings: TorchSettings,
    base: Base,
    device: Device,
    rows: TrainingData,
    epochs: int | Literal["auto"],
) -> TorchSettings:
    """Settings that say whether layers are compiled; a resumed job does as the first run did, to compute the same."""
    known = worker.owner.now.details.get("compile")
    if known is None:
        known = rates.repays_compiling(base, settings, device, rows.tokens * resolve_epochs(epochs, rows.tokens))
        worker.owner.progress(now=True, details={**worker.owner.now.details, "compile": known})
    return settings.model_copy(update={"compile": known})


def _tell_choices(
    worker: TrainingWorker, base: Base, device: Device, plan: Resolved, dtype: str, *, compiled: bool | Literal["auto"]
) -> None:
    """Keep with the job what "auto" came to, and why."""
    request = worker.folder.request()
    used, why = choices(
        TorchSettings.model_validate(request["settings"]),
        plan,
        epochs=request["options"]["epochs"],
        method=request["options"]["method"],
        hidden_size=base.facts.hidden or 1024,
        device=device.name,
        device_model=device.model,
        precision=dtype.removeprefix("torch."),
        compiled=compiled is True,
    )
    worker.owner.progress(now=True, details={**worker.owner.now.details, "resolved": used, "reasons": why})


def _tell_memory(worker: TrainingWorker, device: str) -> None:
    """Keep with the job how many bytes training took at its peak, over all times that it was resumed."""
    known = worker.owner.now.details
    peak = max(_peak_memory(device), known.get("peak_memory") or 0)
    worker.owner.progress(now=True, details={**known, "peak_memory": peak})


def _peak_memory(device: str) -> int:
    """Bytes: of tensors on the GPU, else of this whole process."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Not getrusage: Linux counts there what the parent had when it started this process.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii", errors="replace"))
    return int(found[1]) * 1024 if found else 0


def _tell_untold(worker: TrainingWorker, store: Store) -> None:
    """Tell of a checkpoint whose writer was killed before it could."""
    for kept in store.list():
        if kept.step > worker.owner.last_checkpoint_told:
            worker.emit("checkpoint", f"Checkpoint at step {kept.step}.", step=kept.step)


def _lineage(worker: TrainingWorker, request: Mapping[str, Any], codec: Codec, rows: TrainingData) -> Lineage:
    reference = {"reference": request["base"]} if request["options"]["method"] == "dpo" else {}
    return Lineage(
        base=request["base"],
        job=worker.folder.ref,
        data_fingerprint=request["data"]["train"]["fingerprint"],
        created=utc_now().isoformat(),
        method=request["options"]["method"],
        system=rows.system,
        settings={**request["options"], **request["settings"], **reference},
        versions=request["versions"],
        template_sha256=codec.template.sha256 if codec.template is not None else None,
    )


def _succeed(worker: TrainingWorker, settings: TorchSettings) -> None:
    """Export if asked, then say the last word. The model is whole by now, so an export that cannot be only warns; the
    last word then says how to export again.
    """
    kind, folder = settings.export, worker.folder
    target = folder.path / ("export.gguf" if kind == "gguf" else f"export-{kind}")
    not_exported, remedy = "", None
    if kind != "none" and not target.exists():
        worker.stage(Status.PREPARING, f"Exporting the model ({kind}).")
        try:
            export.write(bases.resolve(str(folder.model)), target, kind)
            worker.emit("log", f"Exported ({kind}) to {target}.", path=str(target))
        except TuneportError as error:
            not_exported = f"Not exported ({kind}): {error.message}"
            worker.emit("log", not_exported, level="warning", remedy=error.remedy)
            another = "KIND" if isinstance(error, UnsupportedError) else kind
            again = f"Run: tuneport export {folder.ref} --kind {another} -o PATH"
            remedy = f"{error.remedy.rstrip('.')}. {again}" if error.remedy else again
    now = worker.owner.now
    done = f"Trained {now.step} steps on {now.tokens} tokens." if now.step else "Trained."
    last_word = f"{done} {not_exported}".rstrip()
    worker.stage(Status.SUCCEEDED, last_word, remedy=remedy, finished=utc_now(), seconds_left=None, queue_position=None)
