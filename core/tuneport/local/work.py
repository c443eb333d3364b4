"""One training, as its author sees it: what was asked, and how to report, save and stop."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.contract.events import Status, utc_now
from tuneport.contract.facts import Lineage
from tuneport.contract.request import TrainSettings
from tuneport.dataset import Conversation, Preference
from tuneport.doors import LOCAL, public
from tuneport.errors import TuneportError
from tuneport.files import sync, write_json
from tuneport.local.checkpoints import Checkpoints, Saved
from tuneport.local.control import Control, Stop
from tuneport.refs import Ref

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tuneport.dataset import Example
    from tuneport.local.devices import Device

Write = Callable[[Path], object]
"""Writes files into an empty folder."""

LINEAGE = "lineage.json"
_REPORTS = 1000  # steps that a run reports, about
_OWN = frozenset({"step", "total_steps", "seconds_left", "kind", "message", "level"})  # of a step's event


@public(LOCAL)
class Stopped(BaseException):
    """Leaves a training that is to be paused or cancelled. `Work.steps` raises it; do not catch it."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop)
        self.stop = stop


@public(LOCAL)
class Work:
    """What a worker gives to `LocalBackend.work`.

    Methods may be called from any thread and write to the job's folder; they raise OSError when the disk is full.
    """

    ref: Ref
    """The job, which has the name of its model."""
    base: Ref
    """The model to start from."""
    options: TrainSettings
    """The portable settings: `epochs`, which may be "auto", `method`, `suffix`. For the seed, use `seed`."""
    settings: BaseModel
    """The backend's own settings, an instance of its `settings_class`."""
    request: Mapping[str, Any]
    """What was asked: everything in the job's request.json, with the facts of `describe_request`."""
    device: Device
    """The device that the job has for as long as the worker runs."""
    checkpoints: Checkpoints
    """The states of the training. Most backends need only `checkpoint`, `steps` and `save_checkpoint`."""
    folder: Path
    """The job's folder."""
    model_folder: Path
    """Where `save_model` puts the model."""

    def __init__(self, control: Control, settings: BaseModel, checkpoints: Checkpoints, device: Device) -> None:
        self._control = control
        self.folder = control.folder.path
        self.ref = Ref.parse(control.folder.ref)
        self.request = control.folder.request()
        self.base = Ref.parse(self.request["base"])
        self.options = TrainSettings(**self.request["options"])
        self.settings = settings
        self.checkpoints = checkpoints
        self.device = device
        self.model_folder = control.folder.model
        self._metrics: dict[str, Any] = {}
        self._systems: set[str | None] = set()

    # -- reading

    def examples(self, part: str = "train") -> Iterator[Example]:
        """The examples of "train" or "validation", in order; none where the job has no such part.

        Raises DataError when the job's copy of the data is damaged.
        """
        data = self.request["data"].get(part)
        if data is None:
            return
        for example in self._control.folder.rows(part, data["fingerprint"]):
            if part == "train" and len(self._systems) < 2:
                self._systems.add(_system_prompt(example))
            yield example

    @cached_property
    def checkpoint(self) -> Saved | None:
        """The newest complete checkpoint, from which a resumed training continues. Damaged ones are logged."""
        return self.checkpoints.newest_intact(lambda why: self.log(why, level="warning"))

    @property
    def seed(self) -> int:
        """The seed; 0 where none was asked for."""
        return self.options.seed or 0

    @property
    def details(self) -> Mapping[str, Any]:
        """The facts that `keep` stored, in this process or an earlier one."""
        return self._control.owner.now.details

    @property
    def last_step(self) -> int:
        """The last step that the job has reported, in this process or an earlier one."""
        return self._control.owner.now.step

    @property
    def tokens_trained(self) -> int:
        """Tokens trained on in this process, from the events that report `tokens`."""
        return self._control.tokens_trained

    # -- reporting

    def emit(self, kind: str, message: str, *, level: str = "info", **data: Any) -> None:
        """Report an event. `kind` is log, metric or checkpoint; `data` holds numbers and texts only.

        Most backends use `metric` and `log` instead. Metric events carry `step`; where they carry `total_steps`,
        `tokens` and `seconds_left`, the job's state shows them. A step is reported once: after a resume, repeated steps
        are left out. Raises ValueError or TypeError for an event that no reader would take.
        """
        self._control.emit(kind, message, level=level, **data)

    def log(self, message: str, *, level: str = "info", **data: Any) -> None:
        """Report a log event; `level` is info, warning or error."""
        self.emit("log", message, level=level, **data)

    def metric(self, **numbers: float) -> None:
        """Add numbers, such as `train_loss`, to the metric event of the current step; for use within `steps`.

        A scalar of numpy or another library is a number too. The usual names are those of `Event`; `steps` adds
        `step`, `total_steps` and `seconds_left`. A loss (`…loss`) that is not finite raises TuneportError, which fails
        the job; another such number is left out.
        """
        self._metrics |= {name: _plain_number(name, value) for name, value in numbers.items()}

    def note(self, activity: str) -> None:
        """Show what the job is doing now, such as "rendered 512 rows". Not an event: the next note replaces it."""
        self._control.owner.progress(native=activity)

    def keep(self, **details: Any) -> None:
        """Keep JSON-ready facts with the job, such as its peak memory; `tuneport show` prints them."""
        self._control.owner.progress(now=True, details={**self.details, **details})

    def stage(self, status: Status, message: str, **changes: Any) -> None:
        """Report that a stage begins: PREPARING or RUNNING. While it is RUNNING, the training itself must ask
        `should_stop`; in other stages the worker ends at once when the job is paused or cancelled.
        """
        self._control.stage(status, message, **changes)

    # -- training

    def should_stop(self) -> Stop | None:
        """What to stop for, if anything; cheap enough to ask at every step. "pause" asks for a checkpoint first."""
        return self._control.should_stop()

    def steps(self, total: int, write: Write, *, seconds: float = 60.0) -> Iterator[int]:
        """The numbers of the steps that are left of `total`, counted from 0, from the last checkpoint on.

        Between two steps it reports the step with its `metric` numbers (about a thousand steps of a longer run), saves
        a checkpoint every `seconds`, and stops when asked. `write` gets an empty folder and writes the training's state
        to it; `checkpoint.folder` holds those files after a resume.
        """
        first = step = self.checkpoint.step if self.checkpoint else 0
        began = saved_at = time.monotonic()
        self.stage(Status.RUNNING, f"Training, {total} steps." if not step else f"Resuming after step {step}.")
        while step < total:
            if stop := self.should_stop():
                if stop == "pause":
                    self.save_checkpoint(step, write)
                raise Stopped(stop)
            yield step
            step += 1
            left = (time.monotonic() - began) / (step - first) * (total - step)
            if step == total or step % max(1, total // _REPORTS) == 0:
                self._report_step(step, total, round(left, 1))
            if step < total and time.monotonic() - saved_at >= seconds:
                self.save_checkpoint(step, write)
                saved_at = time.monotonic()

    def save_checkpoint(self, step: int, write: Write, **state: Any) -> None:
        """Save the state after `step` steps, complete or not at all; `state` are JSON-ready facts to keep with it."""
        folder = self.checkpoints.save(step, write, state)
        self.emit("checkpoint", f"Checkpoint at step {step}.", step=step, name=folder.name)

    def save_model(self, write: Write, *, lineage: Lineage | None = None) -> None:
        """Save the tuned model, complete or not at all; `write` gets an empty folder. `load` reads the same files.

        Called once, at the end of `work`. Raises RuntimeError when `write` writes no file, or for a second model.
        """
        if self.model_folder.exists():
            raise RuntimeError("save_model was called twice; a job has one model")
        self.stage(Status.PREPARING, "Writing the model.")
        draft = self.folder / ".model"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        write(draft)
        if not any(draft.iterdir()):
            raise RuntimeError(f"the model was not saved: {_name(write)} wrote no file into the folder that it got")
        write_json(draft / LINEAGE, (lineage or self.lineage()).to_dict())
        for path in draft.rglob("*"):
            sync(path)
        sync(draft)
        draft.rename(self.model_folder)
        sync(self.folder)

    def lineage(self, **settings: Any) -> Lineage:
        """Where the model comes from; `settings` adds to those that were asked for. `system` is the system prompt that
        all training conversations share, known once `examples` has read them.
        """
        return Lineage(
            base=str(self.base),
            job=str(self.ref),
            data_fingerprint=self.request["data"]["train"]["fingerprint"],
            created=utc_now().isoformat(),
            method=self.options.method,
            system=next(iter(self._systems)) if len(self._systems) == 1 else None,
            settings={**self.request["options"], **self.request["settings"], **settings},
            versions=self.request["versions"],
        )

    def _report_step(self, step: int, total: int, left: float) -> None:
        numbers, self._metrics = self._metrics, {}
        loss = f" loss {numbers['train_loss']:.4f}" if "train_loss" in numbers else ""
        data: dict[str, Any] = {"step": step, "total_steps": total, "seconds_left": left}
        self._control.emit("metric", f"step {step}/{total}{loss}", **data, **numbers)


def _plain_number(name: str, value: Any) -> float | None:
    if name in _OWN:
        raise ValueError(f"a metric cannot be called {name!r}")
    number = value.item() if hasattr(value, "item") else value  # a scalar of numpy, torch, jax or mlx
    if not isinstance(number, int | float):
        raise TypeError(f"the metric {name!r} is {value!r}, not a number")
    if math.isfinite(number):
        return number
    if name.endswith("loss"):
        raise TuneportError(
            f"{name} is {number}: the training has diverged.",
            remedy="Lower the learning rate, or check the rows; then start the run again: tuneport run … --again",
        )
    return None


def _name(function: object) -> str:
    return getattr(function, "__qualname__", repr(function))


def _system_prompt(example: Example) -> str | None:
    messages = {Conversation: "messages", Preference: "prompt"}.get(type(example))
    first = next(iter(getattr(example, messages)), None) if messages else None
    return first.text if first is not None and first.role in ("system", "developer") else None
