"""One job from its folder to its model: rows, device, weights, loop, model."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from tuneport import Conversation, DataError, Lineage, Status, UnavailableError, utc_now
from tuneport_torch import bases, rates
from tuneport_torch.config import TorchSettings
from tuneport_torch.render import Renderer, Unrenderable
from tuneport_torch.tokens import load_text

if TYPE_CHECKING:
    from tuneport import Example
    from tuneport_torch.bases import Base
    from tuneport_torch.devices import Device
    from tuneport_torch.tokens import Text
    from tuneport_torch.worker import Worker

_ROWS_AT_ONCE = 256
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Row:
    """A rendered example, 8 bytes a token."""

    ids: array[int]
    weights: array[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What is trained on. `system` is the system prompt that all conversations share, if they do."""

    train: list[Row]
    validation: list[Row]
    system: str | None

    @property
    def tokens(self) -> int:
        """Tokens of one epoch, prompts included."""
        return sum(len(row.ids) for row in self.train)


def train_job(worker: Worker) -> Literal["pause", "cancel"] | None:
    """Train the worker's job, from the newest whole checkpoint if there is one; why it stopped early, or None."""
    folder, request = worker.folder, worker.folder.request()
    if (folder.model / bases.TUNED).exists():  # killed after the last act and before the last word
        _succeed(worker)
        return None
    settings = TorchSettings.model_validate(request["settings"])
    started = worker.owner.now.started or utc_now()
    worker.stage(Status.PREPARING, "Reading the rows.", started=started)
    base = _base(request, settings)
    text = load_text(base)
    rows = _rows(worker, request, settings, base, text)
    device = worker.device(settings.device, 1 if settings.slots == "auto" else settings.slots)
    worker.stage(Status.PREPARING, f"Loading {base.description} on {device.model}.", queue_position=None)
    settings = _on_device(worker, settings, device)

    from tuneport_torch.checkpoint import Store
    from tuneport_torch.loop import Run, train

    run = Run(
        model=bases.load_model(base),
        train=rows.train,
        validation=rows.validation,
        settings=settings,
        epochs=request["options"]["epochs"],
        seed=request["options"]["seed"],
        store=Store(folder.checkpoints, keep=settings.keep_checkpoints),
        emit=worker.emit,
        should_stop=worker.should_stop,
    )
    worker.stage(Status.RUNNING, f"Training on {len(rows.train)} rows, {rows.tokens} tokens an epoch.")
    with rates.measured(base, settings, device) as measured:
        result = train(run)
        measured.tokens = worker.tokens_trained
    if result.stopped in ("pause", "cancel"):
        return result.stopped
    worker.stage(Status.PREPARING, "Writing the model.")
    _publish(worker, request, run, base, text, rows)
    _succeed(worker)
    return None


def _base(request: Mapping[str, Any], settings: TorchSettings) -> Base:
    """The base on this machine, and the same one as when the job was started."""
    base = bases.fetch(bases.resolve(request["base_name"], trust_remote_code=settings.trust_remote_code))
    wanted = request["base_fingerprint"]
    if wanted is not None and base.fingerprint != wanted:
        raise UnavailableError(
            f"{base.name} is no longer the model that this job was started with: its files have changed.",
            remedy="Bring the old files back, or start the run again: tuneport run … --again",
        )
    return base


def _rows(worker: Worker, request: Mapping[str, Any], settings: TorchSettings, base: Base, text: Text) -> Rows:
    limit = base.facts.max_positions if settings.max_tokens == "auto" else settings.max_tokens
    renderer, data, policy = Renderer(text), request["data"], request["options"]["too_long"]
    systems: set[str | None] = set()
    parts: dict[str, list[Row]] = {}
    try:
        for part, facts in data.items():
            examples = _noting_systems(worker.folder.rows(part, facts["fingerprint"]), systems)
            parts[part] = _rendered(worker, part, examples, renderer, limit, policy)
    finally:
        text.close()
    if not parts["train"]:
        raise DataError("No row is left to train on.", remedy="See why: tuneport check FILE --for torch:…")
    system = systems.pop() if len(systems) == 1 else None
    return Rows(train=parts["train"], validation=parts.get("validation", []), system=system)


def _rendered(
    worker: Worker, part: str, examples: Iterator[Example], renderer: Renderer, limit: int | None, policy: str
) -> list[Row]:
    """All rows of a part; raises DataError for those that cannot be trained on, or are too long without a policy."""
    rows: list[Row] = []
    wrong: list[str] = []
    dropped = cut = read = 0
    while batch := list(islice(examples, _ROWS_AT_ONCE)):
        for number, one in enumerate(renderer.try_render(batch), start=read + 1):
            if isinstance(one, Unrenderable):
                wrong.append(f"row {number}: {one.code}: {one.message}")
                continue
            row = Row(array("i", one.ids), array("f", one.weights))
            if limit is not None and len(row.ids) > limit:
                if policy == "stop":
                    wrong.append(f"row {number}: too-long: {len(row.ids)} tokens, the model takes {limit}")
                    continue
                row = Row(row.ids[:limit], row.weights[:limit])
                if policy == "drop" or not any(row.weights):
                    dropped += 1
                    continue
                cut += 1
            rows.append(row)
        read += len(batch)
        worker.owner.progress(native=f"rendered {read} rows of {part}")
    if wrong:
        shown = "".join(f"\n  {line}" for line in wrong[:_SHOWN])
        raise DataError(
            f"{len(wrong)} of {read} rows ({part}) cannot be trained on:{shown}",
            remedy="See them all, with what to do: tuneport check FILE --for torch:MODEL",
        )
    if dropped or cut:
        told = (
            f"{part}: {read} rows read, {len(rows)} used, {dropped} too long and dropped, {cut} cut to {limit} tokens."
        )
        worker.emit("log", told, level="warning", read=read, used=len(rows), dropped=dropped, truncated=cut)
    return rows


def _noting_systems(examples: Iterable[Example], systems: set[str | None]) -> Iterator[Example]:
    for example in examples:
        if len(systems) < 2:
            first = example.messages[0] if isinstance(example, Conversation) else None
            systems.add(first.text if first is not None and first.role in ("system", "developer") else None)
        yield example


def _on_device(worker: Worker, settings: TorchSettings, device: Device) -> TorchSettings:
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


def _lineage(worker: Worker, request: Mapping[str, Any], text: Text, rows: Rows) -> Lineage:
    return Lineage(
        base=request["base"],
        job=worker.folder.ref,
        data_fingerprint=request["data"]["train"]["fingerprint"],
        created=utc_now().isoformat(),
        method=request["options"]["method"],
        system=rows.system,
        settings={**request["options"], **request["settings"]},
        versions=request["versions"],
        template_sha256=text.template.sha256 if text.template is not None else None,
    )


def _succeed(worker: Worker) -> None:
    now = worker.owner.now
    done = f"Trained {now.step} steps on {now.tokens} tokens." if now.step else "Trained."
    worker.stage(Status.SUCCEEDED, done, finished=utc_now(), seconds_left=None, queue_position=None)
