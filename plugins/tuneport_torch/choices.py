"""What training uses, setting by setting, and why: for plans, jobs and reports. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tuneport_torch.bases.precision import cpu_has_bfloat16

if TYPE_CHECKING:
    from tuneport_torch.config import Resolved, TorchSettings

Choices = tuple[dict[str, Any], dict[str, str]]
"""Values by name, and the reason of each."""


def choices(
    settings: TorchSettings,
    resolved: Resolved,
    *,
    epochs: int | Literal["auto"],
    method: str,
    hidden_size: int,
    device: str,
    device_model: str,
    precision: str,
    compiled: bool,
) -> Choices:
    """The settings that a training uses and the reason of each. `settings` and `epochs` are as asked; `device` is such
    as `cuda:0`, `precision` the type of numbers of the forward pass.
    """
    values: dict[str, Any] = {}
    why: dict[str, str] = {}

    def add(name: str, value: Any, asked: object, rule: str) -> None:
        values[name] = value
        why[name] = rule if asked == "auto" else "as asked"

    add("learning_rate", resolved.learning_rate, settings.learning_rate, _rate_rule(settings, method, hidden_size))
    add("epochs", resolved.epochs, epochs, "auto: 3; more below 100 steps of 256 tokens, fewer above 5 million tokens")
    add("total_steps", resolved.total_steps, "auto", f"{resolved.steps_per_epoch:,} an epoch x {resolved.epochs}")
    add(
        "tokens_per_step",
        resolved.tokens_per_step,
        settings.tokens_per_step,
        "auto: a hundredth of all tokens trained on, from 256 to 16,384",
    )
    add(
        "tokens_per_batch",
        resolved.tokens_per_batch,
        settings.tokens_per_batch,
        "auto: 16,384 on a GPU, 1,024 else; halved when memory runs out",
    )
    add("warmup_steps", resolved.warmup_steps, settings.warmup, "auto: a twentieth of all steps, at most 100")
    add("evaluate_every", resolved.evaluate_every, settings.evaluate_every, "auto: ten evaluations a run, or fewer")
    values["mode"], why["mode"] = settings.mode, _usual(settings, "mode")
    if settings.mode == "lora":
        adapter = settings.adapter
        values |= {"rank": adapter.rank, "alpha": adapter.alpha}
        why |= {name: _usual(adapter, name) for name in ("rank", "alpha")}
    add("precision", precision, settings.precision, _precision_rule(device))
    add("device", device, settings.device, f"auto: {device_model}")
    add(
        "compile",
        compiled,
        settings.compile,
        "auto: on a CUDA GPU, where training takes 20 minutes or more and nothing is quantized",
    )
    return values, why


def planned_precision(settings: TorchSettings, device: str) -> str:
    """The type of numbers of the forward pass as far as it is known without torch."""
    if settings.precision != "auto":
        return settings.precision
    if device == "cpu":
        return "bfloat16" if cpu_has_bfloat16() else "float32"
    return "bfloat16" if device == "cuda" else "float32"


def _rate_rule(settings: TorchSettings, method: str, hidden_size: int) -> str:
    tenth = (" x 0.1 for mode full" if settings.mode == "full" else "") + (" x 0.1 for dpo" if method == "dpo" else "")
    return f"auto: 5e-4 x (2000 / hidden size {hidden_size:,})^0.78, at most 1e-3{tenth}"


def _precision_rule(device: str) -> str:
    if device.startswith("cpu"):
        return "auto: bfloat16 where the CPU computes in it"
    return "auto: bfloat16 on GPUs of capability 8 or more" if device.startswith("cuda") else "auto: float32 on Apple"


def _usual(settings: Any, name: str) -> str:
    return "default" if getattr(settings, name) == type(settings).model_fields[name].default else "as asked"
