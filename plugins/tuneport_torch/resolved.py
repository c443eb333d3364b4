"""What every setting resolves to for one training: "auto" resolved once, for the plan, the job and its resumes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from tuneport_torch import autos

if TYPE_CHECKING:
    from tuneport_torch.config import TorchSettings

Choices = tuple[dict[str, Any], dict[str, str]]
"""Values by name, and the reason of each."""

_SCHEDULE = (
    "epochs",
    "steps_per_epoch",
    "total_steps",
    "tokens_per_step",
    "tokens_per_batch",
    "learning_rate",
    "warmup_steps",
    "evaluate_every",
    "patience",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """All settings that have an "auto", resolved for one model, one data set and one device.

    `steps_per_epoch`, `total_steps` and `warmup_steps` are optimizer steps. Where a value is a text such as "if exact",
    the training decides when it knows.
    """

    epochs: int
    steps_per_epoch: int
    total_steps: int
    tokens_per_step: int
    tokens_per_batch: int
    learning_rate: float
    warmup_steps: int
    evaluate_every: int
    patience: int | None
    beta: float
    packing: bool | Literal["if exact"]
    max_tokens: int | None
    precision: Literal["float32", "bfloat16"]
    device: autos.Kind
    threads: int
    activation_checkpointing: bool | Literal["if needed"]
    compile: bool
    checkpoint_every: int | Literal["by time"]
    slots: int

    def schedule(self) -> dict[str, Any]:
        """The values that decide what is computed: a checkpoint can be continued only under the same ones."""
        values = asdict(self)
        return {name: values[name] for name in _SCHEDULE}


def resolve(
    settings: TorchSettings,
    *,
    epochs: int | autos.Auto,
    rows: int,
    tokens: int,
    validation_tokens: int = 0,
    hidden_size: int,
    device: autos.Kind,
    method: str = "sft",
    max_positions: int | None = None,
    has_bfloat16: bool = False,
    threads: int = 1,
    fits: bool = True,
    tokens_per_second: float | None = None,
    details: Mapping[str, object] | None = None,
) -> Resolved:
    """Resolve every "auto"; exact when `rows` and `tokens` are.

    `tokens` counts one epoch, prompts included; `hidden_size` and `max_positions` are the model's. `device` is the kind
    that `autos.device` gave, `has_bfloat16` whether it computes in that type, `threads` PyTorch's own choice. `fits`
    says whether the longest row is expected to fit into memory, `tokens_per_second` how fast training is expected to
    be. `details` are those of a job that is resumed.
    """
    times = autos.epochs(epochs, tokens)
    everything = tokens * times
    per_step = autos.tokens_per_step(settings.tokens_per_step, everything)
    steps_per_epoch = max(1, min(math.ceil(tokens / per_step), rows))
    total = steps_per_epoch * times
    known_threads, known_compile = autos.read_earlier(details or {})
    seconds = everything / tokens_per_second if tokens_per_second else None
    return Resolved(
        epochs=times,
        steps_per_epoch=steps_per_epoch,
        total_steps=total,
        tokens_per_step=per_step,
        tokens_per_batch=autos.tokens_per_batch(settings.tokens_per_batch, device),
        learning_rate=autos.learning_rate(
            settings.learning_rate, mode=settings.mode, method=method, hidden_size=hidden_size
        ),
        warmup_steps=autos.warmup(settings.warmup, total),
        evaluate_every=autos.evaluate_every(
            settings.evaluate_every, total_steps=total, tokens=everything, validation_tokens=validation_tokens
        ),
        patience=autos.patience(settings.patience),
        beta=autos.beta(settings.beta),
        packing=autos.packing(settings.packing),
        max_tokens=autos.max_tokens(settings.max_tokens, max_positions),
        precision=autos.precision(settings.precision, has_bfloat16=has_bfloat16),
        device=device,
        threads=autos.threads(settings.threads, threads, known_threads),
        activation_checkpointing=autos.activation_checkpointing(settings.activation_checkpointing, fits=fits),
        compile=autos.compiling(
            settings.compile, kind=device, quantize=settings.quantize, seconds=seconds, earlier=known_compile
        ),
        checkpoint_every=autos.checkpoint_every(settings.checkpoint_every),
        slots=autos.slots(settings.slots),
    )


def explain(
    settings: TorchSettings, resolved: Resolved, *, epochs: int | autos.Auto, method: str, device: str, model: str
) -> Choices:
    """The settings that a training uses and the reason for each, for plans, jobs and reports. `settings` and `epochs`
    are as asked; `device` is the device's name, such as `cuda:0`, `model` its model.
    """
    values: dict[str, Any] = {}
    why: dict[str, str] = {}

    def add(setting: str, asked: object, name: str = "", value: Any = None) -> None:
        name = name or setting
        values[name] = value = getattr(resolved, name) if value is None else value
        if value is None:  # no limit, or never
            del values[name]
        else:
            why[name] = autos.describe(setting) if asked == "auto" else "as requested"

    add("learning_rate", settings.learning_rate)
    add("epochs", epochs)
    values["total_steps"] = resolved.total_steps
    why["total_steps"] = f"{resolved.steps_per_epoch:,} an epoch x {resolved.epochs}"
    for name in ("tokens_per_step", "tokens_per_batch"):
        add(name, getattr(settings, name))
    add("warmup", settings.warmup, "warmup_steps")
    for name in ("evaluate_every", "patience", "checkpoint_every", "max_tokens", "packing"):
        add(name, getattr(settings, name))
    if method != "sft":
        add("beta", settings.beta)
    values["mode"], why["mode"] = settings.mode, _default_or_asked(settings, "mode")
    if settings.mode == "lora":
        adapter = settings.adapter
        values |= {"rank": adapter.rank, "alpha": adapter.alpha}
        why |= {name: _default_or_asked(adapter, name) for name in ("rank", "alpha")}
    add("precision", settings.precision)
    add("device", settings.device, value=device)
    if settings.device == "auto":
        why["device"] += f" ({model})"
    for name in ("threads", "slots", "activation_checkpointing", "compile"):
        add(name, getattr(settings, name))
    return values, why


def _default_or_asked(settings: Any, name: str) -> str:
    return "default" if getattr(settings, name) == type(settings).model_fields[name].default else "as requested"
