"""The settings of `backends.torch`, and the rules that stand behind "auto"."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tuneport.errors import ConfigError
from tuneport.plugin import Settings

Auto = Literal["auto"]
# The bound belongs to the number: a bound on the whole field would be asked of the word "auto" too.
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Adapter(Settings):
    """A LoRA adapter: low-rank weights that are trained beside the frozen model."""

    rank: int = Field(default=16, ge=1, le=1024, description="Rank of the adapter: its capacity and size grow with it.")
    alpha: float = Field(default=32.0, gt=0, description="The adapter's product is scaled by alpha / rank.")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the adapter's inputs that is dropped in training."
    )
    targets: Literal["all-linear"] | tuple[str, ...] = Field(
        default="all-linear",
        description='Which layers get an adapter: "all-linear" (all but the output head), or endings of their names, '
        "such as [q_proj, v_proj].",
    )


class TorchSettings(Settings):
    """How to train on this machine. Every "auto" has a rule, told in its description."""

    mode: Literal["lora", "full"] = Field(
        default="lora",
        description="lora trains an adapter beside the frozen model; full trains all weights, in float32.",
    )
    adapter: Adapter = Field(default=Adapter(), description="The adapter of mode lora; unused in mode full.")
    quantize: Literal["none", "nf4"] = Field(
        default="none",
        description="nf4 keeps the frozen weights under an adapter in 4 bits (QLoRA): an eighth of float32's memory, "
        "and slower; needs the extra tuneport[quantized]. In use and exports the base is as it was.",
    )
    learning_rate: float | Auto = Field(
        default="auto",
        description="Peak learning rate. auto: 5e-4 x (2000 / hidden size)^0.78, at most 1e-3, for an adapter; "
        "a tenth of that in mode full; for method dpo a tenth of the one or the other, for orpo as for sft.",
    )
    beta: Annotated[float, Field(gt=0)] | Auto = Field(
        default="auto",
        description="Method dpo: how strongly the tuned model is held to its base; the smaller, the further it may go. "
        "Method orpo: the weight of the odds ratio beside the loss of the chosen answer, the paper's lambda. "
        "auto: 0.1.",
    )
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=0.5,
        description="Method dpo alone: the share of pairs that are taken to be labelled the wrong way round.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="How the learning rate falls after the warm-up: cosine and linear end at 0."
    )
    warmup: Natural | Auto = Field(
        default="auto", description="Steps of linear warm-up. auto: a twentieth of all steps, at most 100."
    )
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's weight decay, on matrices only.")
    max_grad_norm: float = Field(
        default=1.0, gt=0, description="Gradients are scaled down to this norm when theirs is larger."
    )
    tokens_per_step: Positive | Auto = Field(
        default="auto",
        description="Tokens of one optimiser step, prompts included; whole rows, so about that many. "
        "auto: a hundredth of all tokens to be trained on (tokens x epochs), between 256 and 16384.",
    )
    tokens_per_batch: Positive | Auto = Field(
        default="auto",
        description="Most tokens in memory at once; a step is split into such micro-batches, which changes nothing "
        "but memory and speed. auto: 16384 on a GPU, 1024 else; halved whenever memory runs out.",
    )
    packing: bool | Auto = Field(
        default="auto",
        description="Rows of a micro-batch stand one after another, without padding and without seeing each other. "
        "auto: on where a check at the start proves the model exact that way, else rows are padded.",
    )
    max_tokens: Annotated[int, Field(ge=8)] | Auto = Field(
        default="auto", description="Longest row in tokens. auto: what the model's configuration allows."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Arithmetic of the forward and backward pass; trained weights are always float32. auto: bfloat16 "
        "on CUDA devices of capability 8 or more and on CPUs with AVX-512 BF16 or AMX instructions, else float32.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto",
        description="Where to train. auto: a CUDA GPU when there is one, else an Apple GPU, else the CPU.",
    )
    threads: Positive | Auto = Field(default="auto", description="CPU threads. auto: PyTorch's choice, one per core.")
    activation_checkpointing: bool | Auto = Field(
        default="auto",
        description="Compute activations twice instead of keeping them. auto: only once a single row no longer fits.",
    )
    compile: bool | Auto = Field(
        default="auto",
        description="Compile the model's layers by torch.compile, which takes half a minute or more at the start; "
        "where it fails, a warning says so and training goes on without. auto: on a CUDA GPU, where training is "
        "foretold to take 20 minutes or more, and weights are not quantised.",
    )
    evaluate_every: Positive | Auto = Field(
        default="auto",
        description="Steps between two evaluations on the validation rows; the last step is always evaluated. "
        "auto: ten evaluations a run, fewer where they would read more than a third of the training tokens.",
    )
    patience: Positive | Auto | None = Field(
        default="auto",
        description="Stop after this many evaluations in a row without a better validation loss; null never stops "
        "early. auto: 3. Without validation rows there is nothing to go by and training never stops early.",
    )
    checkpoint_every: Positive | Auto = Field(
        default="auto",
        description="Steps between two checkpoints. auto: once a minute, or less often where saving is slow, so "
        "that it takes at most a twentieth of the time. When they are saved never changes what is computed.",
    )
    keep_checkpoints: int = Field(
        default=2, ge=1, description="How many of the newest checkpoints are kept beside the best."
    )
    export: Literal["none", "adapter", "merged", "gguf"] = Field(
        default="none", description="What to write beside the model when training is over, for use with other tools."
    )
    usd_per_hour: float | None = Field(
        default=None,
        ge=0,
        description="What an hour of this machine costs; plans and budgets count with it. null: nothing.",
    )
    slots: Positive | Auto = Field(
        default="auto", description="Jobs that may train on this device at the same time. auto: one."
    )
    trust_remote_code: bool = Field(
        default=False, description="Run code that comes with the base model; asks for a base pinned as name@revision."
    )

    @model_validator(mode="after")
    def _quantized_weights_stay_frozen(self) -> TorchSettings:
        if self.quantize != "none" and self.mode == "full":
            raise ValueError("weights in 4 bits cannot be trained: leave out quantize, or set mode to lora")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What "auto" came to for one model and one data set."""

    epochs: int
    steps_per_epoch: int
    total_steps: int
    tokens_per_step: int
    tokens_per_batch: int
    learning_rate: float
    warmup_steps: int
    evaluate_every: int
    patience: int | None


def resolve_epochs(epochs: int | Auto, tokens: int) -> int:
    """How often the data is read. auto: 3; up to 10 where that makes fewer than 100 steps of 256 tokens; 2 above 5 and
    1 above 20 million tokens.
    """
    if epochs != "auto":
        return epochs
    if tokens > 20_000_000:
        return 1
    if tokens > 5_000_000:
        return 2
    return min(10, max(3, math.ceil(100 * 256 / max(tokens, 1))))


def resolve_beta(settings: TorchSettings) -> float:
    """How strongly dpo holds a model to its reference, or how much orpo's odds ratio weighs. auto: 0.1, as Rafailov et
    al. 2023 have the one for dialogues, and Hong et al. 2024 the other for their released models.
    """
    return 0.1 if settings.beta == "auto" else settings.beta


def check_method(settings: TorchSettings, method: str) -> None:
    """Raise ConfigError for a setting that the method would not heed."""
    if settings.label_smoothing and method != "dpo":
        raise ConfigError(
            f"backends.torch.label_smoothing belongs to method dpo; {method} has none.",
            remedy="Leave it out, or set train.method to dpo.",
            key="backends.torch.label_smoothing",
        )


def resolve(
    settings: TorchSettings,
    *,
    epochs: int | Auto,
    rows: int,
    tokens: int,
    validation_tokens: int = 0,
    hidden_size: int,
    device: str,
    method: str = "sft",
) -> Resolved:
    """Turn every "auto" that depends on the data into a number; exact when `rows` and `tokens` are.

    `tokens` counts one epoch, prompts included; `hidden_size` is the model's; `device` is "cpu", "cuda" or "mps".
    """
    times = resolve_epochs(epochs, tokens)
    everything = tokens * times
    asked = settings.tokens_per_step
    per_step: int = min(16_384, max(256, round(everything / 100))) if asked == "auto" else asked
    steps_per_epoch = max(1, min(math.ceil(tokens / per_step), rows))
    total = steps_per_epoch * times
    per_batch = settings.tokens_per_batch
    if per_batch == "auto":
        per_batch = 1024 if device == "cpu" else 16_384
    rate = settings.learning_rate
    if rate == "auto":
        # The exponent and the factor of ten between full and LoRA: Thinking Machines, "LoRA Without Regret" (2025).
        rate = min(1e-3, 5e-4 * (2000 / hidden_size) ** 0.78) * (1.0 if settings.mode == "lora" else 0.1)
        # dpo's first steps go far: published recipes stay at a tenth to a twentieth of those for sft. orpo begins with
        # the loss of sft and goes about as far: Hong et al. 2024 (appendix C) take 8e-6 for it and 1e-5 for sft.
        if method == "dpo":
            rate *= 0.1
    if settings.evaluate_every == "auto":
        affordable = everything / 3 / validation_tokens if validation_tokens else 10.0
        evaluate: int = math.ceil(total / min(10.0, max(1.0, affordable)))
    else:
        evaluate = settings.evaluate_every
    return Resolved(
        epochs=times,
        steps_per_epoch=steps_per_epoch,
        total_steps=total,
        tokens_per_step=per_step,
        tokens_per_batch=per_batch,
        learning_rate=rate,
        warmup_steps=min(100, total // 20) if settings.warmup == "auto" else settings.warmup,
        evaluate_every=evaluate,
        patience=3 if settings.patience == "auto" else settings.patience,
    )
