"""The training loop, from the first row to the best weights."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from tuneport_torch.config import Resolved, TorchSettings, resolve, resolve_beta
from tuneport_torch.engine import state
from tuneport_torch.engine.batches import Batches
from tuneport_torch.engine.checkpoint import Store
from tuneport_torch.engine.dpo import Dpo
from tuneport_torch.engine.memory import Memory
from tuneport_torch.engine.metrics import Metrics
from tuneport_torch.engine.objective import Answers, Objective
from tuneport_torch.engine.orpo import Orpo
from tuneport_torch.engine.pack import WeightedTokens, epoch_steps
from tuneport_torch.engine.pairs import Pairs, switch_dropout_off
from tuneport_torch.engine.prepare import compute_type, pick_device, prepare
from tuneport_torch.engine.reference import Reference
from tuneport_torch.engine.saving import Saver
from tuneport_torch.engine.state import Progress
from tuneport_torch.engine.update import adamw, update

if TYPE_CHECKING:
    from tuneport_torch.protocols import Emit, Stop
    from tuneport_torch.text.rows import TrainingPair


@dataclass(kw_only=True)
class Run:
    """Everything that one training needs. `model` is changed: it gets an adapter, moves to the device, and holds the
    best weights in the end. `should_stop` is asked often, and answers at once. With `overlap` a thread packs the next
    micro-batch while the present one is computed with, and a step's figures are read while the next one runs; None: on
    a GPU, which would wait otherwise. A CPU has nothing to win by it. It changes no number.
    `on_plan` gets what "auto" came to and the type of numbers of the forward pass,
    before the first step.
    """

    model: Any
    train: Sequence[WeightedTokens] | Sequence[TrainingPair]
    validation: Sequence[WeightedTokens] | Sequence[TrainingPair] = ()
    settings: TorchSettings
    method: Literal["sft", "dpo", "orpo"] = "sft"
    epochs: int | Literal["auto"] = "auto"
    seed: int = 0
    store: Store
    emit: Emit
    should_stop: Callable[[], Stop | None] = field(default=lambda: None)
    overlap: bool | None = None
    on_plan: Callable[[Resolved, torch.dtype], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a training ended. `stopped` is why it ended before its last step, if it did: "pause" and "cancel" are as
    asked, "patience" is early stopping, which is a success. Losses are in nats per token of weight 1, or per pair where
    answers are compared; `valid_loss` is the best step's, whose weights the model holds. Without validation rows the
    best step is the last. `seconds_aside` went, in this process, into what comes before the first step: making the
    model ready, compiling it, measuring dpo's reference.
    """

    stopped: Literal["pause", "cancel", "patience"] | None
    step: int
    total_steps: int
    tokens: int
    best_step: int
    train_loss: float | None
    valid_loss: float | None
    skipped_steps: int
    seconds_aside: float = field(default=0.0, compare=False)


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
            training.step()
            last = progress.step == plan.total_steps
            if run.validation and (last or progress.step % plan.evaluate_every == 0):
                save = training.evaluate()
            else:
                training.metrics.settle(leave=training.unread)
                save = False
            if save or saver.due():
                training.metrics.settle()  # so that the checkpoint counts this step too
                saver.save()
        training.metrics.settle()
        if stopped != "cancel":
            saver.save_last()
    except _CancelledError:
        stopped = "cancel"
        training.metrics.settle()
    finally:
        training.close()
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
        seconds_aside=training.seconds_aside,
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
        if isinstance(self.data, Pairs):
            switch_dropout_off(run.model)
        self.dtype = compute_type(settings.precision, self.device)
        if run.on_plan is not None:
            run.on_plan(self.plan, self.dtype)
        began = time.monotonic()
        self.forward = prepare(run.model, settings, self.device, self.dtype, run.emit)
        self.trained = {name: weight for name, weight in run.model.named_parameters() if weight.requires_grad}
        self.optimizer = adamw(self.trained, settings.weight_decay, self.device)
        overlap = self.device.type == "cuda" if run.overlap is None else run.overlap
        self.batches, self.unread = Batches(self.forward, ahead=overlap), int(overlap)
        self.stopped = self._measure_reference()  # while the weights are those of the base
        self.seconds_aside = time.monotonic() - began
        self.progress, self.saver = self._resumed()
        self.memory = Memory(run.model, settings.activation_checkpointing, self.progress, run.emit)
        self.metrics = Metrics(self.progress, self.plan, self.data.figures, run.emit)
        self.epoch: tuple[int, list[list[int]]] = (-1, [])
        run.model.train()

    def step(self) -> None:
        """One optimiser step. Nothing in it waits for the device: what the step came to is left to `metrics`."""
        progress = self.progress
        examples, following = self._examples(progress.step), self._examples(progress.step + 1)

        def backward() -> Tensor:
            """Gradients of sum(loss) / sum(weight) over all micro-batches of the step, and its figures likewise."""
            self.optimizer.zero_grad(set_to_none=True)
            weight = self.data.weight(examples)
            total = torch.zeros(len(self.data.figures), device=self.device)
            for batch in self.batches.of(self.data, examples, progress.tokens_per_batch, then=following):
                self._obey()
                with self._autocast():
                    share = self.data.measure(self.forward, batch) / weight
                share[0].backward()  # type: ignore[no-untyped-call]  # torch's own
                total += share.detach()
            return total

        def split(limit: int) -> list[list[int]]:
            return self.data.split(self.forward, examples, limit)

        figures = self.memory.fit(backward, split, self.data.lengths)
        rate = learning_rate(progress.step, self.plan, self.run.settings.schedule)
        weights = list(self.trained.values())
        norm = update(self.optimizer, weights, rate, self.run.settings.max_grad_norm, figures[0])
        progress.step += 1
        progress.tokens += sum(self.data.lengths[example] for example in examples)
        self.metrics.add(rate, figures, norm)

    def evaluate(self) -> bool:
        """Measure the figures over the validation examples, and tell them; whether the loss is the best so far."""
        progress, model, data = self.progress, self.run.model, self.validation

        def measure() -> Tensor:
            total = torch.zeros(len(data.figures), device=self.device)
            for batch in self.batches.of(data, self.valid_order, progress.tokens_per_batch):
                self._obey()
                with self._autocast():
                    total += data.measure(self.forward, batch)
            return total

        def split(limit: int) -> list[list[int]]:
            return data.split(self.forward, self.valid_order, limit)

        model.eval()
        with torch.no_grad():
            total = self.memory.fit(measure, split, data.lengths)
        model.train()
        weight = data.weight(self.valid_order)
        figures = {name: sum_ / weight for name, sum_ in zip(data.figures, total.tolist(), strict=True)}
        self.metrics.settle(evaluated=figures)
        loss = progress.valid_loss = figures["loss"]
        if progress.best_loss is None or loss < progress.best_loss:
            progress.best_step, progress.best_loss = progress.step, loss
            progress.worse_evaluations = 0
            return True
        progress.worse_evaluations += 1
        return False

    def close(self) -> None:
        """Leave the model as it is used, and wait for what is under way."""
        self.forward.close()
        self.batches.close()
        self.saver.close()

    def _examples(self, step: int) -> list[int]:
        """The examples of a step, counted from 0: they follow from its number alone. None after the last."""
        if step == self.plan.total_steps:
            return []
        epoch, position = divmod(step, self.plan.steps_per_epoch)
        if self.epoch[0] != epoch:
            self.epoch = epoch, epoch_steps(self.data.lengths, self.plan.tokens_per_step, self.run.seed, epoch)
        return self.epoch[1][position]

    def _measure_reference(self) -> Stop | None:
        """Let dpo's pairs know what the untrained model gives them, unless that is kept already; why it stopped.

        They come in the batches of the first epoch and of the evaluations: so in the first step the very same
        operations are compared, and every margin is exactly 0.
        """
        run, train, validation = self.run, self.data, self.validation
        if not isinstance(train, Dpo) or not isinstance(validation, Dpo):
            return None
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
    beta = resolve_beta(run.settings)
    if run.method == "orpo":
        return Orpo(examples, part, beta=beta)
    return Dpo(examples, part, beta=beta, label_smoothing=run.settings.label_smoothing)


def learning_rate(step: int, plan: Resolved, schedule: str) -> float:
    """The rate of a step, counted from 0: it rises linearly over the warm-up, then falls to 0 as scheduled."""
    if step < plan.warmup_steps:
        return plan.learning_rate * (step + 1) / plan.warmup_steps
    done = (step - plan.warmup_steps) / max(1, plan.total_steps - plan.warmup_steps)
    share = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[schedule]
    return plan.learning_rate * share
