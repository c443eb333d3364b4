"""One job from its rows to its model: rows, device, weights, loop, model."""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tuneport.errors import JobFailed, ModelNotFound, TuneportError, UnavailableError, UnsupportedError
from tuneport.local import may_pass
from tuneport.plugin import Lineage, Status
from tuneport_torch import autos, bases, export, pace
from tuneport_torch.bases.files import DamagedModel
from tuneport_torch.bases.loading import load_model
from tuneport_torch.bases.precision import fastest
from tuneport_torch.config import TorchSettings
from tuneport_torch.engine import footprint
from tuneport_torch.resolved import Resolved, explain, resolve
from tuneport_torch.text.load import load_codec
from tuneport_torch.text.rows import TrainingData, TrainingPair, TrainingRow, read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tuneport.local import Device, Stop, Work
    from tuneport_torch.bases import Base
    from tuneport_torch.text.codec import Codec


def train_job(work: Work) -> Stop | None:
    """Train a job, from the newest intact checkpoint if there is one. Returns why it stopped early, or None."""
    device, settings = work.device, cast(TorchSettings, work.settings)
    base = _find_base(work.request, settings)
    codec = load_codec(base)
    limit = autos.max_tokens(settings.max_tokens, base.facts.max_positions)
    rows = read_rows(work, work.request, codec, limit)
    work.stage(Status.PREPARING, f"Loading {base.description} on {device.model}.")
    _take_device(device)
    model = _load_base(work, base)
    resolved = _resolve(work, model, base, rows)

    from tuneport_torch.engine.checkpoint import Store
    from tuneport_torch.engine.loop import Run, train

    run = Run(
        model=model,
        train=rows.train,
        validation=rows.validation,
        settings=settings,
        method=work.request["options"]["method"],
        epochs=work.options.epochs,
        seed=work.seed,
        store=Store(work.checkpoints.folder, keep=work.checkpoints.keep),
        emit=work.emit,
        should_stop=work.should_stop,
        resolved=resolved,
    )
    what = "rows" if run.method == "sft" else "pairs"
    work.stage(Status.RUNNING, f"Training on {len(rows.train)} {what}, {rows.tokens} tokens an epoch.")
    with pace.measure(base, settings, device, work.ref.name) as measured:
        result = train(run)
        measured.tokens, measured.seconds_aside = work.tokens_trained, result.setup_seconds
    _keep_peak_memory(work, resolved.device)
    if result.stopped in ("pause", "cancel"):
        return result.stopped
    work.stage(Status.PREPARING, "Writing the model.")
    lineage = _describe_lineage(work, codec, rows)
    export.save(work.model_folder, run.model, base=base, codec=codec, lineage=lineage, style=rows.style)
    codec.close()
    return None


def export_model(work: Work) -> tuple[str, str | None]:
    """Export the model if the settings say so. The model is complete by now, so an export that fails only warns: with
    a sentence, and how to export again.
    """
    kind = cast(TorchSettings, work.settings).export
    target = work.folder / ("export.gguf" if kind == "gguf" else f"export-{kind}")
    if kind == "none" or target.exists():
        return "", None
    work.stage(Status.PREPARING, f"Exporting the model ({kind}).")
    try:
        export.write(bases.resolve(str(work.model_folder)), target, kind)
    except TuneportError as error:
        failed = f"Not exported ({kind}): {error.message}"
        work.log(failed, level="warning", remedy=error.remedy)
        another = "KIND" if isinstance(error, UnsupportedError) else kind
        again = f"Run: tuneport export {work.ref} --kind {another} -o PATH"
        return failed, f"{error.remedy.rstrip('.')}. {again}" if error.remedy else again
    work.log(f"Exported ({kind}) to {target}.", path=str(target))
    return "", None


def _find_base(request: Mapping[str, Any], settings: TorchSettings) -> Base:
    """The base on this machine. Raises UnavailableError unless it is the one that the job was started with."""
    try:
        near, trust = request.get("base_near"), settings.trust_remote_code
        base = bases.fetch(bases.resolve(request["base_name"], trust_remote_code=trust, near=near))
    except ModelNotFound as error:  # it was there, or might be, when the job was started
        raise UnavailableError(error.message, remedy="Restore its files.") from error
    wanted = request["base_fingerprint"]
    if wanted is not None and not base.matches(wanted):
        raise UnavailableError(
            f"{base.name} is no longer the model that this job was started with: its files have changed.",
            remedy="Restore the old files, or start the run again: tuneport run … --again",
        )
    return base


def _load_base(work: Work, base: Base) -> PreTrainedModel:
    """The base with its weights. Files that contain no model end the job: it could not continue with others."""
    try:
        return load_model(base)
    except DamagedModel as error:
        if may_pass(error):
            raise
        raise JobFailed(error.message, ref=str(work.ref), remedy=error.remedy) from error


def _take_device(device: Device) -> None:
    """Let PyTorch see the device from the queue alone. Raises UnavailableError where it cannot use it."""
    kind, _, index = device.name.partition(":")
    if index:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[int(index)] if visible else index
    import torch

    if kind == "cuda" and not torch.cuda.is_available():
        raise UnavailableError(
            "The NVIDIA driver lists a GPU, but PyTorch cannot use it.",
            remedy=f"Python prints the reason: python -c 'import torch; torch.cuda.init()' (torch {torch.__version__})",
        )


def _resolve(work: Work, model: PreTrainedModel, base: Base, rows: TrainingData) -> Resolved:
    """What "auto" resolves to; kept with the job for its reports and for a resume."""
    import torch

    settings, device, kind = cast(TorchSettings, work.settings), work.device, _kind(work.device)
    fits = not footprint.needs_recompute(base.facts, settings, kind, device.memory, rows.longest)
    if not fits:
        work.log(f"Activations are computed twice instead of kept: they would not fit into {device.model}.")
    expected = pace.estimate(base, settings, device)
    resolved = resolve(
        settings,
        epochs=work.options.epochs,
        rows=len(rows.train),
        tokens=rows.tokens,
        validation_tokens=sum(map(_count_tokens, rows.validation)),
        hidden_size=model.config.get_text_config().hidden_size,
        device=kind,
        method=work.options.method,
        max_positions=base.facts.max_positions,
        has_bfloat16=fastest(kind) == "bfloat16",
        threads=torch.get_num_threads(),
        fits=fits,
        tokens_per_second=expected.tokens_per_second if expected else None,
        details=work.details,
    )
    used, why = explain(
        settings,
        resolved,
        epochs=work.options.epochs,
        method=work.options.method,
        device=device.name,
        model=device.model,
    )
    work.keep(
        device=device.name,
        device_model=device.model,
        threads=resolved.threads,
        compile=resolved.compile,
        resolved=used,
        reasons=why,
    )
    return resolved


def _kind(device: Device) -> autos.Kind:
    return cast(autos.Kind, device.name.partition(":")[0])


def _count_tokens(row: TrainingRow | TrainingPair) -> int:
    return len(row.ids) if isinstance(row, TrainingRow) else len(row.chosen.ids) + len(row.rejected.ids)


def _keep_peak_memory(work: Work, device: str) -> None:
    """Keep with the job how many bytes training took at its peak, over all times that it was resumed."""
    work.keep(peak_memory=max(_peak_memory(device), work.details.get("peak_memory") or 0))


def _peak_memory(device: str) -> int:
    """Bytes: of tensors on the GPU, else of this process."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Not getrusage: Linux counts there what the parent had when it started this process.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii", errors="replace"))
    return int(found[1]) * 1024 if found else 0


def _describe_lineage(work: Work, codec: Codec, rows: TrainingData) -> Lineage:
    reference = {"reference": str(work.base)} if work.options.method == "dpo" else {}
    template = codec.template.sha256 if codec.template is not None else None
    return replace(work.lineage(**reference), system=rows.system, template_sha256=template)
