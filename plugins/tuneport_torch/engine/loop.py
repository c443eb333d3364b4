"""The training loop, from the first row to the best weights."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import nn

from tuneport import TuneportError
from tuneport_torch.config import Resolved, TorchSettings, resolve, resolve_beta
from tuneport_torch.engine import state
from tuneport_torch.engine.checkpoint import Store
from tuneport_torch.engine.dpo import Pairs, switch_dropout_off
from tuneport_torch.engine.memory import Memory
from tuneport_torch.engine.objective import Answers, Objective
from tuneport_torch.engine.pack import Row, epoch_steps
from tuneport_torch.engine.prepare import adamw, compute_type, pick_device, prepare
from tuneport_torch.engine.reference import Reference
from tuneport_torch.engine.saving import Saver
from tuneport_torch.engine.state import Progress

if TYPE_CHECKING:
    from tuneport_torch.text.rows import Pair

_SKIPS_IN_A_ROW = 5
_METRICS_A_RUN = 1000  # of a longer run, only every so manieth step is told

Stop = Literal["pause", "cancel"]


class Emit(Protocol):
    """Tells the world an event; `data` holds numbers and texts only."""

    def __call__(self, kind: str, message: str, *, level: str = "info", **data: Any) -> None: ...


@dataclass(kw_only=True)
class Run:
    """Everything that one training needs. `model` is changed: it gets an adapter, moves to the device, and holds the
    best weights in the end. `should_stop` is asked often, and answers at once.
    """

    model: Any
    train: Sequence[Row] | Sequence[Pair]
    validation: Sequence[Row] | Sequence[Pair] = ()
    settings: TorchSettings
    method: Literal["sft", "dpo"] = "sft"
    epochs: int | Literal["auto"] = "auto"
    seed: int = 0
    store: Store
    emit: Emit
    should_stop: Callable[[], Stop | None] = field(default=lambda: None)


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a training ended. `stopped` is why it ended before its last step, if it did: "pause" and "cancel" are as
    asked, "patience" is early stopping, which is a success. Losses are in nats per token of weight 1, or by method dpo
    per pair; `valid_loss` is the best step's, whose weights the model holds. Without validation rows the best step is
    the last. `reference_seconds` went, in this process, into measuring the reference of preference pairs.
    """

    stopped: Literal["pause", "cancel", "patience"] | None
    step: int
    total_steps: int
    tokens: int
    best_step: int
    train_loss: float | None
    valid_loss: float | None
    skipped_steps: int
    reference_seconds: float = field(default=0.0, compare=False)


def train(run: Run) -> Result:
    """Train until the last step, or until asked to stop; goes on from the newest whole checkpoint of `run.store`.

    Raises DataError for rows with nothing to train on, and TuneportError when one row does not fit into memory, when
    the gradients stay infinite, or when the checkpoints are of another run. On a CPU with the same number of threads, a
    run that was interrupted anywhere ends with the same bits as one that was not.
    """
    training = _Training(run)
    plan, progress, saver = training.plan, training.progress, training.saver
    stopped: Literal["pause", "cancel", "patience"] | None = training.stopped
    try:
        while stopped is None and progress.step < plan.total_steps:
            if plan.patience is not None and progress.worse_evaluations >= plan.patience:
                stopped = "patience"
                break
            if stopped := run.should_stop():
                break
            saver.settle()
            rate, norm = training.step()
            last = progress.step == plan.total_steps
            evaluated = bool(run.validation) and (last or progress.step % plan.evaluate_every == 0)
            better = training.evaluate() if evaluated else False
            if last or evaluated or progress.step == 1 or progress.step % training.tell_every == 0:
                training.tell(rate, norm, evaluated=evaluated)
            if better or saver.due():
                saver.save()
        if stopped != "cancel":
            saver.save_last()
    except _CancelledError:
        stopped = "cancel"
    finally:
        training.forward.close()
        saver.close()
    if stopped is None or stopped == "patience":
        saver.take_best()
    return Result(
        stopped=stopped,
        step=progress.step,
        total_steps=plan.total_steps,
        tokens=progress.tokens,
        best_step=progress.step if progress.best_step is None else progress.best_step,
        train_loss=progress.train_loss,
        valid_loss=progress.best_loss,
        skipped_steps=progress.skipped,
        reference_seconds=training.reference_seconds,
    )


class _Training:
    """The parts of a training at work: set up once, then one step after another."""

    def __init__(self, run: Run) -> None:
        self.run, settings = run, run.settings
        self.device = pick_device(settings.device)
        if settings.threads != "auto":
            torch.set_num_threads(settings.threads)
        torch.manual_seed(run.seed)
        random.seed(run.seed)
        self.data, self.validation = _objective(run, run.train, "train"), _objective(run, run.validation, "validation")
        valid_lengths = self.validation.lengths
        self.valid_order = sorted(range(len(valid_lengths)), key=lambda example: -valid_lengths[example])
        self.plan: Resolved = resolve(
            settings,
            epochs=run.epochs,
            rows=len(run.train),
            tokens=sum(self.data.lengths),
            validation_tokens=sum(valid_lengths),
            hidden_size=run.model.config.get_text_config().hidden_size,
            device=self.device.type,
            method=run.method,
        )
        self.tell_every = max(1, self.plan.total_steps // _METRICS_A_RUN)
        self.dtype = compute_type(settings.precision, self.device)
        self.forward = prepare(run.model, settings, self.device, self.dtype, run.emit)
        self.trained = {name: weight for name, weight in run.model.named_parameters() if weight.requires_grad}
        self.optimizer = adamw(self.trained, settings.weight_decay, self.device)
        began = time.monotonic()
        self.stopped = self._measure_reference()  # while the weights are those of the base
        self.reference_seconds = time.monotonic() - began
        self.progress, self.saver = self._resumed()
        self.memory = Memory(run.model, settings.activation_checkpointing, self.progress, run.emit)
        self.steps: list[list[int]] = []
        self.figures: dict[str, float] = {}  # of the last step and the last evaluation, beside their losses
        self.began_at = self.told_at = time.monotonic()
        self.began_step, self.told_tokens = self.progress.step, self.progress.tokens
        run.model.train()

    def step(self) -> tuple[float, float]:
        """One optimiser step; its learning rate and the norm of its gradients."""
        progress, plan = self.progress, self.plan
        epoch, position = divmod(progress.step, plan.steps_per_epoch)
        if position == 0 or not self.steps:  # which rows come when follows from the step's number alone
            self.steps = epoch_steps(self.data.lengths, plan.tokens_per_step, self.run.seed, epoch)
        examples = self.steps[position]
        rate = learning_rate(progress.step, plan, self.run.settings.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

        def backward() -> list[float]:
            """Gradients of sum(loss) / sum(weight) over all micro-batches of the step, and its figures likewise."""
            self.optimizer.zero_grad(set_to_none=True)
            weight = self.data.weight(examples)
            total = torch.zeros(len(self.data.figures), device=self.device)
            for batch in self.data.split(self.forward, examples, progress.tokens_per_batch):
                self._obey()
                with self._autocast():
                    share = self.data.measure(self.forward, batch) / weight
                share[0].backward()  # type: ignore[no-untyped-call]  # torch's own
                total += share.detach()
            figures: list[float] = total.tolist()
            return figures

        def split(limit: int) -> list[list[int]]:
            return self.data.split(self.forward, examples, limit)

        loss, *others = self.memory.fit(backward, split, self.data.lengths)
        norm = float(nn.utils.clip_grad_norm_(list(self.trained.values()), self.run.settings.max_grad_norm))
        if math.isfinite(loss) and math.isfinite(norm):
            self.optimizer.step()
            progress.skipped_in_a_row = 0
            progress.train_loss = loss
            self.figures.update(zip(self.data.figures[1:], others, strict=True))
        else:
            self._skip(rate)
        self.optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.tokens += sum(self.data.lengths[example] for example in examples)
        return rate, norm

    def evaluate(self) -> bool:
        """Measure the figures over the validation examples; whether the loss is the best so far."""
        progress, model, data = self.progress, self.run.model, self.validation

        def measure() -> list[float]:
            total = torch.zeros(len(data.figures), device=self.device)
            for batch in data.split(self.forward, self.valid_order, progress.tokens_per_batch):
                self._obey()
                with self._autocast():
                    total += data.measure(self.forward, batch)
            figures: list[float] = total.tolist()
            return figures

        model.eval()
        with torch.no_grad():
            total = self.memory.fit(
                measure, lambda limit: data.split(self.forward, self.valid_order, limit), data.lengths
            )
        model.train()
        progress.valid_loss, *others = (figure / data.weight(self.valid_order) for figure in total)
        self.figures.update((f"valid_{name}", other) for name, other in zip(data.figures[1:], others, strict=True))
        if progress.best_loss is None or progress.valid_loss < progress.best_loss:
            progress.best_step, progress.best_loss = progress.step, progress.valid_loss
            progress.worse_evaluations = 0
            return True
        progress.worse_evaluations += 1
        return False

    def tell(self, rate: float, norm: float, *, evaluated: bool) -> None:
        """Emit the step's metrics."""
        progress, plan, now = self.progress, self.plan, time.monotonic()
        a_step = (now - self.began_at) / (progress.step - self.began_step)
        data: dict[str, Any] = {
            "step": progress.step,
            "total_steps": plan.total_steps,
            "epoch": round(progress.step / plan.steps_per_epoch, 4),
            "train_loss": progress.train_loss,
            **{name: figure for name, figure in self.figures.items() if evaluated or not name.startswith("valid_")},
            "learning_rate": rate,
            "grad_norm": norm if math.isfinite(norm) else None,
            "tokens": progress.tokens,
            "tokens_per_second": round((progress.tokens - self.told_tokens) / max(now - self.told_at, 1e-9), 1),
            "seconds_left": round(a_step * (plan.total_steps - progress.step), 1),
        }
        message = f"step {progress.step}/{plan.total_steps}"
        if progress.train_loss is not None:
            message += f" loss {progress.train_loss:.4f}"
        if evaluated:
            data["valid_loss"] = progress.valid_loss
            message += f" validation {progress.valid_loss:.4f}"
        self.told_at, self.told_tokens = now, progress.tokens
        self.run.emit("metric", message, **data)

    def _measure_reference(self) -> Stop | None:
        """Let preference pairs know what the untrained model gives them, unless that is kept already; why it stopped.

        They come in the batches of the first epoch and of the evaluations: so in the first step the very same
        operations are compared, and every margin is exactly 0.
        """
        run, train, validation = self.run, self.data, self.validation
        if not isinstance(train, Pairs) or not isinstance(validation, Pairs):
            return None
        switch_dropout_off(run.model)
        how = {"precision": str(self.dtype), "forward": type(self.forward).__name__}
        reference = Reference(run.store.folder, {"train": train, "validation": validation}, how)
        steps = epoch_steps(train.lengths, self.plan.tokens_per_step, run.seed, 0)
        work = [(train, step) for step in steps] + [(validation, self.valid_order)]
        memory = Memory(run.model, False, Progress(tokens_per_batch=self.plan.tokens_per_batch), run.emit)
        run.model.eval()
        return reference.measure(work, self.forward, memory, self._autocast, run)

    def _resumed(self) -> tuple[Progress, Saver]:
        """Where the newest whole checkpoint stands, or the beginning; and the one who keeps those to come."""
        run, plan = self.run, self.plan
        facts = state.facts(self.data.facts(), run.settings, plan, run.seed, self.dtype)
        progress = state.resume(run.store, facts, self.trained, self.optimizer, run.emit)
        if progress is None:
            progress = Progress(tokens_per_batch=plan.tokens_per_batch)
        else:
            run.emit("log", f"Going on after step {progress.step} of {plan.total_steps}.", step=progress.step)
        every = run.settings.checkpoint_every
        saver = Saver(run.store, progress, self.trained, self.optimizer, facts, every=every, emit=run.emit)
        return progress, saver

    def _skip(self, rate: float) -> None:
        progress = self.progress
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        message = f"Step {progress.step + 1} is skipped: its loss or gradients are not finite."
        self.run.emit("log", message, level="warning", step=progress.step + 1)
        if progress.skipped_in_a_row >= _SKIPS_IN_A_ROW:
            raise TuneportError(
                f"The loss or its gradients were not finite in {_SKIPS_IN_A_ROW} steps in a row, up to step "
                f"{progress.step + 1}.",
                remedy=f"Lower backends.torch.learning_rate (it was {rate:.2g}); if that does not help, set "
                "backends.torch.precision to float32.",
            )

    def _obey(self) -> None:
        """Leave a step at once when the job is cancelled; a pause waits for the step's end."""
        if self.run.should_stop() == "cancel":
            raise _CancelledError

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)


class _CancelledError(Exception):
    """The job was cancelled within a step."""


def _objective(run: Run, examples: Any, part: str) -> Objective:
    if run.method == "sft":
        return Answers(examples, part)
    return Pairs(examples, part, beta=resolve_beta(run.settings), label_smoothing=run.settings.label_smoothing)


def learning_rate(step: int, plan: Resolved, schedule: str) -> float:
    """The rate of a step, counted from 0: it rises linearly over the warm-up, then falls to 0 as scheduled."""
    if step < plan.warmup_steps:
        return plan.learning_rate * (step + 1) / plan.warmup_steps
    done = (step - plan.warmup_steps) / max(1, plan.total_steps - plan.warmup_steps)
    share = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[schedule]
    return plan.learning_rate * share
