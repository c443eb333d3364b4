"""The one home of "auto": for each setting that has it, its rule as a sentence and as a function.

The functions take what a user asked for first, and return it unless it is "auto". The sentences are part of the
settings' descriptions and the reasons that plans and reports show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

Auto = Literal["auto"]
Kind = Literal["cpu", "cuda", "mps"]
Function = TypeVar("Function", bound=Callable[..., object])

RULES: dict[str, str] = {}
"""What "auto" means, by setting."""


def rule(setting: str, sentence: str) -> Callable[[Function], Function]:
    """Mark the function that resolves a setting."""

    def mark(function: Function) -> Function:
        RULES[setting] = sentence
        return function

    return mark


def describe(setting: str) -> str:
    """The rule of a setting as its description ends with it: "auto: …"."""
    return f"auto: {RULES[setting]}"


@rule("epochs", "3; up to 10 below 100 steps of 256 tokens; 2 above 5 million tokens, 1 above 20 million")
def epochs(asked: int | Auto, tokens: int) -> int:
    """How often the data is read; `tokens` are those of one epoch."""
    if asked != "auto":
        return asked
    if tokens > 20_000_000:
        return 1
    if tokens > 5_000_000:
        return 2
    return min(10, max(3, math.ceil(100 * 256 / max(tokens, 1))))


@rule(
    "learning_rate",
    "5e-4 x (2000 / hidden size)^0.78, at most 1e-3, for an adapter; a tenth of that in mode full; for method "
    "dpo a tenth of these, for orpo as for sft",
)
def learning_rate(asked: float | Auto, *, mode: str, method: str, hidden_size: int) -> float:
    """The peak rate. The exponent and the factor of ten between full and LoRA: Thinking Machines, "LoRA Without Regret"
    (2025).
    """
    if asked != "auto":
        return asked
    rate: float = min(1e-3, 5e-4 * (2000 / hidden_size) ** 0.78) * (1.0 if mode == "lora" else 0.1)
    # dpo's first steps go far: published recipes stay at a tenth to a twentieth of those for sft. orpo begins with the
    # loss of sft and goes about as far: Hong et al. 2024 (appendix C) take 8e-6 for it and 1e-5 for sft.
    return rate * 0.1 if method == "dpo" else rate


@rule("beta", "0.1")
def beta(asked: float | Auto) -> float:
    """How strongly dpo holds a model to its reference, or how much orpo's odds ratio weighs: 0.1, as Rafailov et al.
    2023 have the one for dialogs, and Hong et al. 2024 the other for their released models.
    """
    return 0.1 if asked == "auto" else asked


@rule("warmup", "a twentieth of all steps, at most 100")
def warmup(asked: int | Auto, total_steps: int) -> int:
    """Steps of linear warm-up."""
    return min(100, total_steps // 20) if asked == "auto" else asked


@rule("tokens_per_step", "a hundredth of all tokens to be trained on (tokens x epochs), between 256 and 16384")
def tokens_per_step(asked: int | Auto, tokens: int) -> int:
    """Tokens of one optimizer step; `tokens` are those of all epochs."""
    return min(16_384, max(256, round(tokens / 100))) if asked == "auto" else asked


@rule("tokens_per_batch", "16384 on a GPU, otherwise 1024; halved whenever memory runs out")
def tokens_per_batch(asked: int | Auto, kind: Kind) -> int:
    """The most tokens in memory at once, to begin with."""
    if asked != "auto":
        return asked
    return 1024 if kind == "cpu" else 16_384


@rule("packing", "on if a check at the start proves that the model is exact that way, otherwise rows are padded")
def packing(asked: bool | Auto) -> bool | Literal["if exact"]:
    """Whether rows are packed; "if exact" is decided by `engine.forward` once the model is loaded."""
    return "if exact" if asked == "auto" else asked


@rule("max_tokens", "what the model's configuration allows")
def max_tokens(asked: int | Auto, max_positions: int | None) -> int | None:
    """The longest row in tokens; None without a limit."""
    return max_positions if asked == "auto" else asked


@rule(
    "precision",
    "bfloat16 on CUDA devices of capability 8 or more and on CPUs with AVX-512 BF16 or AMX instructions, "
    "otherwise float32",
)
def precision(asked: str, *, has_bfloat16: bool) -> Literal["float32", "bfloat16"]:
    """The arithmetic of the forward and backward pass. Never float16, whose range small gradients fall out of."""
    if asked == "auto":
        return "bfloat16" if has_bfloat16 else "float32"
    return "bfloat16" if asked == "bfloat16" else "float32"


@rule("device", "a CUDA GPU if there is one, otherwise an Apple GPU, otherwise the CPU")
def device(asked: Kind | Auto, *, has_cuda: bool, has_apple_gpu: bool) -> Kind:
    """The kind of device to train on."""
    if asked != "auto":
        return asked
    return "cuda" if has_cuda else "mps" if has_apple_gpu else "cpu"


@rule("threads", "PyTorch's choice, one per core")
def threads(asked: int | Auto, usual: int, earlier: int | None = None) -> int:
    """CPU threads: those of the job's first run, so that a resumed job computes the same."""
    return earlier or (usual if asked == "auto" else asked)


@rule("activation_checkpointing", "only once a single row no longer fits")
def activation_checkpointing(asked: bool | Auto, *, fits: bool) -> bool | Literal["if needed"]:
    """Whether activations are computed twice; "if needed" is decided by `engine.memory` when memory runs out. `fits`
    says whether the longest row is expected to fit otherwise.
    """
    if asked != "auto":
        return asked
    return "if needed" if fits else True


@rule(
    "compile",
    "on a CUDA GPU, where training is expected to take 20 minutes or more, and weights are not quantized",
)
def compiling(
    asked: bool | Auto, *, kind: Kind, quantize: str, seconds: float | None, earlier: bool | None = None
) -> bool:
    """Whether layers are compiled: as in the job's first run, so that a resumed job computes the same. `seconds` is how
    long training is expected to take. A minute of compiling is regained where steps get a twentieth faster; a CPU's
    time goes into matrix products, which stay what they are.
    """
    if earlier is not None:
        return earlier
    if asked != "auto":
        return asked
    return kind == "cuda" and quantize == "none" and (seconds or 0.0) >= 1200.0


@rule("evaluate_every", "ten evaluations a run, fewer where they would read more than a third of the training tokens")
def evaluate_every(asked: int | Auto, *, total_steps: int, tokens: int, validation_tokens: int) -> int:
    """Steps between two evaluations; `tokens` are those of all epochs."""
    if asked != "auto":
        return asked
    affordable = tokens / 3 / validation_tokens if validation_tokens else 10.0
    return math.ceil(total_steps / min(10.0, max(1.0, affordable)))


@rule("patience", "3")
def patience(asked: int | Auto | None) -> int | None:
    """Evaluations in a row without a better loss that end a training; None never ends it early."""
    return 3 if asked == "auto" else asked


@rule(
    "checkpoint_every",
    "once a minute, or less often where saving is slow, so that it takes at most a twentieth of the time",
)
def checkpoint_every(asked: int | Auto) -> int | Literal["by time"]:
    """Steps between two checkpoints; "by time" is decided by `engine.saving` as it measures."""
    return "by time" if asked == "auto" else asked


@rule("slots", "one")
def slots(asked: int | Auto) -> int:
    """Jobs that may train on one device at the same time."""
    return 1 if asked == "auto" else asked


def read_earlier(details: Mapping[str, object]) -> tuple[int | None, bool | None]:
    """The threads and the compiling of a job's first run, from what was kept with it."""
    kept = details.get("resolved")
    kept = kept if isinstance(kept, Mapping) else {}
    found = {name: kept.get(name, details.get(name)) for name in ("threads", "compile")}
    known_threads, known_compile = found["threads"], found["compile"]
    return (
        known_threads if isinstance(known_threads, int) else None,
        known_compile if isinstance(known_compile, bool) else None,
    )
