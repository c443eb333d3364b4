"""The training loop, from the first row to the best weights."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from tuneport_torch import autos
from tuneport_torch.bases.precision import fastest
from tuneport_torch.config import TorchSettings
from tuneport_torch.devices import device_kind
from tuneport_torch.engine import state
from tuneport_torch.engine.batches import Batches
from tuneport_torch.engine.checkpoint import Store
from tuneport_torch.engine.dpo import Dpo
from tuneport_torch.engine.memory import Memory
from tuneport_torch.engine.metrics import Metrics
from tuneport_torch.engine.objective import AnswerRows, Objective
from tuneport_torch.engine.orpo import Orpo
from tuneport_torch.engine.pack import WeightedTokens, epoch_steps
from tuneport_torch.engine.pairs import Pairs, switch_dropout_off
from tuneport_torch.engine.prepare import prepare
from tuneport_torch.engine.reference import Reference
from tuneport_torch.engine.saving import Saver
from tuneport_torch.engine.schedule import learning_rate
from tuneport_torch.engine.state import Progress
from tuneport_torch.engine.update import adamw, update
from tuneport_torch.resolved import Resolved, resolve

if TYPE_CHECKING:
    from tuneport.local import Stop
    from tuneport_torch.protocols import Emit
    from tuneport_torch.text.rows import TrainingPair


@dataclass(kw_only=True)
class Run:
    """Everything that a training run needs.

    `model` is changed: it gets an adapter, moves to the device, and finally has the best weights. `should_stop` is
    called often and must return at once. With `overlap` a thread packs the next micro-batch during the current one, and
    a step's figures are read while the next one runs; None means only on a GPU, because a CPU gains nothing. It changes
    no number. `resolved` is what "auto" comes to; None resolves it here, from the rows and the model alone.
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
    resolved: Resolved | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a training run ended.

    `stopped` is why it ended before its last step, if it did: "pause" and "cancel" were requested, "patience" is early
    stopping, which is a success. Losses are in nats per token of weight 1, or per pair where answers are compared.
    `valid_loss` is that of the best step, whose weights the model has. Without validation rows the best step is the
    last. `setup_seconds` is the time in this process before the first step: preparing and compiling the model, and
    measuring dpo's reference.
    """

    stopped: Literal["pause", "cancel", "patience"] | None
    step: int
    total_steps: int
    tokens: int
    best_step: int
    train_loss: float | None
    valid_loss: float | None
    skipped_steps: int
    setup_seconds: float = field(default=0.0, compare=False)


def train(run: Run) -> Result:
    """Train until the last step or a request to stop, starting from the newest intact checkpoint of `run.store`.

    Raises DataError for rows with nothing to train on, and TuneportError if a row does not fit into memory, if
    gradients stay infinite, or if the checkpoints are of another run. On a CPU with the same number of threads, an
    interrupted and resumed run ends with the same bits as an uninterrupted one.
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
            saver.collect()
            training.step()
            last = progress.step == plan.total_steps
            if run.validation and (last or progress.step % plan.evaluate_every == 0):
                save = training.evaluate()
            else:
                training.metrics.flush(leave=training.unread)
                save = False
            if save or saver.is_due():
                training.metrics.flush()  # so that the checkpoint counts this step too
                saver.save()
        training.metrics.flush()
        if stopped != "cancel":
            saver.save_last()
    except _CancelledError:
        stopped = "cancel"
        training.metrics.flush()
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
        setup_seconds=training.setup_seconds,
    )


class _Training:
    """The parts of a training run: set up once, then used step by step."""

    def __init__(self, run: Run) -> None:
        self.run, settings = run, run.settings
        torch.manual_seed(run.seed)
        random.seed(run.seed)
        self.data, self.validation = _objective(run, run.train, "train"), _objective(run, run.validation, "validation")
        valid_lengths = self.validation.lengths
        self.valid_order = sorted(range(len(valid_lengths)), key=lambda example: -valid_lengths[example])
        self.plan = run.resolved or _resolve(run, sum(self.data.lengths), sum(valid_lengths))
        self.device, self.dtype = torch.device(self.plan.device), getattr(torch, self.plan.precision)
        torch.set_num_threads(self.plan.threads)
        if isinstance(self.data, Pairs):
            switch_dropout_off(run.model)
        start = time.monotonic()
        self.forward = prepare(run.model, settings, self.plan, run.emit)
        self.trained = {name: weight for name, weight in run.model.named_parameters() if weight.requires_grad}
        self.optimizer = adamw(self.trained, settings.weight_decay, self.device)
        overlap = self.device.type == "cuda" if run.overlap is None else run.overlap
        self.batches, self.unread = Batches(self.forward, ahead=overlap), int(overlap)
        self.stopped = self._measure_reference()  # while the weights are those of the base
        self.setup_seconds = time.monotonic() - start
        self.progress, self.saver = self._resume()
        self.memory = Memory(run.model, self.plan.activation_checkpointing, self.progress, run.emit)
        self.metrics = Metrics(self.progress, self.plan, self.data.figures, run.emit)
        self.epoch: tuple[int, list[list[int]]] = (-1, [])
        run.model.train()

    def step(self) -> None:
        """Take one optimizer step without waiting for the device: `metrics` reads the step's figures later."""
        progress = self.progress
        examples, following = self._examples(progress.step), self._examples(progress.step + 1)

        def backward() -> Tensor:
            """Compute the gradients of sum(loss) / sum(weight) over all micro-batches of the step, and its figures."""
            self.optimizer.zero_grad(set_to_none=True)
            weight = self.data.weight(examples)
            total = torch.zeros(len(self.data.figures), device=self.device)
            for batch in self.batches.of(self.data, examples, progress.tokens_per_batch, then=following):
                self._check_cancelled()
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
        """Compute and report the figures of the validation examples; whether the loss is the best so far."""
        progress, model, data = self.progress, self.run.model, self.validation

        def measure() -> Tensor:
            total = torch.zeros(len(data.figures), device=self.device)
            for batch in self.batches.of(data, self.valid_order, progress.tokens_per_batch):
                self._check_cancelled()
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
        self.metrics.flush(evaluated=figures)
        loss = progress.valid_loss = figures["loss"]
        if progress.best_loss is None or loss < progress.best_loss:
            progress.best_step, progress.best_loss = progress.step, loss
            progress.worse_evaluations = 0
            return True
        progress.worse_evaluations += 1
        return False

    def close(self) -> None:
        """Restore the model for use, and wait for pending work."""
        self.forward.close()
        self.batches.close()
        self.saver.close()

    def _examples(self, step: int) -> list[int]:
        """The examples of a step, counted from 0, which depend only on its number. Empty after the last step."""
        if step == self.plan.total_steps:
            return []
        epoch, position = divmod(step, self.plan.steps_per_epoch)
        if self.epoch[0] != epoch:
            self.epoch = epoch, epoch_steps(self.data.lengths, self.plan.tokens_per_step, self.run.seed, epoch)
        return self.epoch[1][position]

    def _measure_reference(self) -> Stop | None:
        """Measure the untrained model's log-probabilities for dpo, unless they are stored; why it stopped, or None.

        They are computed in the batches of the first epoch and of the evaluations, so the first step compares exactly
        the same operations, and every margin is exactly 0.
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

    def _resume(self) -> tuple[Progress, Saver]:
        """The progress of the newest intact checkpoint or a new one, and the saver of later checkpoints."""
        run, plan = self.run, self.plan
        facts = state.facts(self.data.facts(), run.settings, plan, run.seed, self.dtype)
        progress = state.resume(run.store, facts, self.trained, self.optimizer, run.emit)
        if progress is None:
            progress = Progress(tokens_per_batch=plan.tokens_per_batch)
        else:
            run.emit("log", f"Resuming after step {progress.step} of {plan.total_steps}.", step=progress.step)
        every = plan.checkpoint_every
        saver = Saver(run.store, progress, self.trained, self.optimizer, facts, every=every, emit=run.emit)
        return progress, saver

    def _check_cancelled(self) -> None:
        """Leave the step at once if the job is cancelled. A pause waits for the end of the step."""
        if self.run.should_stop() == "cancel":
            raise _CancelledError

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)


class _CancelledError(Exception):
    """The job was cancelled during a step."""


def _objective(run: Run, examples: Any, part: str) -> Objective:
    if run.method == "sft":
        return AnswerRows(examples, part)
    beta = autos.beta(run.settings.beta)
    if run.method == "orpo":
        return Orpo(examples, part, beta=beta)
    return Dpo(examples, part, beta=beta, label_smoothing=run.settings.label_smoothing)


def _resolve(run: Run, tokens: int, validation_tokens: int) -> Resolved:
    kind = device_kind(run.settings.device)
    return resolve(
        run.settings,
        epochs=run.epochs,
        rows=len(run.train),
        tokens=tokens,
        validation_tokens=validation_tokens,
        hidden_size=run.model.config.get_text_config().hidden_size,
        device=kind,
        method=run.method,
        has_bfloat16=fastest(kind) == "bfloat16",
        threads=torch.get_num_threads(),
    )
