"""One job from its folder to its model: rows, device, weights, loop, model."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from tuneport import Conversation, DataError, Lineage, ModelNotFound, Status, TuneportError, UnavailableError, utc_now
from tuneport_torch import bases, export, rates
from tuneport_torch.config import TorchSettings
from tuneport_torch.loading import load_model
from tuneport_torch.refusals import Unrenderable
from tuneport_torch.render import Renderer, Style
from tuneport_torch.tokens import load_text

if TYPE_CHECKING:
    from tuneport import Example
    from tuneport_torch.bases import Base
    from tuneport_torch.checkpoint import Store
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
    """What is trained on. `system` is the system prompt that all conversations share, if they do; `style` is plain
    where there are none.
    """

    train: list[Row]
    validation: list[Row]
    system: str | None
    style: Style

    @property
    def tokens(self) -> int:
        """Tokens of one epoch, prompts included."""
        return sum(len(row.ids) for row in self.train)


def train_job(worker: Worker) -> Literal["pause", "cancel"] | None:
    """Train the worker's job, from the newest whole checkpoint if there is one; why it stopped early, or None."""
    folder, request = worker.folder, worker.folder.request()
    settings = TorchSettings.model_validate(request["settings"])
    if (folder.model / bases.TUNED).exists():  # killed after the last act and before the last word
        _succeed(worker, settings)
        return None
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

    store = Store(folder.checkpoints, keep=settings.keep_checkpoints)
    _tell_untold(worker, store)
    run = Run(
        model=load_model(base),
        train=rows.train,
        validation=rows.validation,
        settings=settings,
        epochs=request["options"]["epochs"],
        seed=request["options"]["seed"],
        store=store,
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
    lineage = _lineage(worker, request, text, rows)
    export.save(folder.model, run.model, base=base, text=text, lineage=lineage, style=rows.style)
    text.close()
    del run
    _succeed(worker, settings)
    return None


def _base(request: Mapping[str, Any], settings: TorchSettings) -> Base:
    """The base on this machine, and the same one as when the job was started."""
    try:
        base = bases.fetch(bases.resolve(request["base_name"], trust_remote_code=settings.trust_remote_code))
    except ModelNotFound as error:  # it was there, or might be, when the job was started
        raise UnavailableError(error.message, remedy="Put it back.") from error
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
    openings = _Openings()
    parts: dict[str, list[Row]] = {}
    try:
        for part, facts in data.items():
            examples = openings.noted(worker.folder.rows(part, facts["fingerprint"]))
            parts[part] = _rendered(worker, part, examples, renderer, limit, policy)
    finally:
        text.close()
    if not parts["train"]:
        raise DataError("No row is left to train on.", remedy="See why: tuneport check FILE --for torch:…")
    return Rows(
        train=parts["train"],
        validation=parts.get("validation", []),
        system=openings.system,
        style="chat" if openings.conversations else "plain",
    )


def _rendered(
    worker: Worker, part: str, examples: Iterator[Example], renderer: Renderer, limit: int | None, policy: str
) -> list[Row]:
    """All rows of a part; raises DataError for those that cannot be trained on, or are too long without a policy."""
    rows: list[Row] = []
    wrong: list[str] = []
    dropped = cut = read = left_out = 0
    while batch := list(islice(examples, _ROWS_AT_ONCE)):
        for number, one in enumerate(renderer.try_render(batch), start=read + 1):
            if isinstance(one, Unrenderable):
                wrong.append(f"row {number}: {one.code}: {one.message}")
                continue
            left_out += one.turns_left_out
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
    if left_out:
        told = f"{part}: {left_out} assistant turns are context only: the model's template rewrites them later on."
        worker.emit("log", told, level="warning", turns_left_out=left_out)
    if dropped or cut:
        told = (
            f"{part}: {read} rows read, {len(rows)} used, {dropped} too long and dropped, {cut} cut to {limit} tokens."
        )
        worker.emit("log", told, level="warning", read=read, used=len(rows), dropped=dropped, truncated=cut)
    return rows


class _Openings:
    """How conversations begin, noted while they pass by."""

    def __init__(self) -> None:
        self.conversations = 0
        self._systems: set[str | None] = set()

    def noted(self, examples: Iterable[Example]) -> Iterator[Example]:
        for example in examples:
            if isinstance(example, Conversation):
                self.conversations += 1
                if len(self._systems) < 2:
                    first = example.messages[0]
                    self._systems.add(first.text if first.role in ("system", "developer") else None)
            yield example

    @property
    def system(self) -> str | None:
        """The system prompt of all of them, if there is one."""
        return next(iter(self._systems)) if len(self._systems) == 1 else None


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


def _tell_untold(worker: Worker, store: Store) -> None:
    """Tell of a checkpoint whose writer was killed before it could."""
    for kept in store.list():
        if kept.step > worker.owner.last_checkpoint_told:
            worker.emit("checkpoint", f"Checkpoint at step {kept.step}.", step=kept.step)


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


def _succeed(worker: Worker, settings: TorchSettings) -> None:
    """Export if asked, then say the last word. The model is whole by now, so an export that cannot be only warns."""
    kind, folder = settings.export, worker.folder
    target = folder.path / f"export-{kind}"
    if kind != "none" and not target.exists():
        worker.stage(Status.PREPARING, f"Exporting the model ({kind}).")
        write = export.adapter if kind == "adapter" else export.merged
        try:
            write(bases.resolve(str(folder.model)), target)
            worker.emit("log", f"Exported ({kind}) to {target}.", path=str(target))
        except TuneportError as error:
            worker.emit("log", f"Not exported ({kind}): {error.message}", level="warning", remedy=error.remedy)
    now = worker.owner.now
    done = f"Trained {now.step} steps on {now.tokens} tokens." if now.step else "Trained."
    worker.stage(Status.SUCCEEDED, done, finished=utc_now(), seconds_left=None, queue_position=None)
