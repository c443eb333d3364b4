"""The settings of `backends.torch`; `autos` has the rules of "auto"."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tuneport.errors import ConfigError
from tuneport.plugin import Settings
from tuneport_torch.autos import Auto, describe

# The bound belongs to the number: a bound on the field would apply to the word "auto" too.
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Adapter(Settings):
    """A LoRA adapter: low-rank weights that are trained next to the frozen model."""

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
    """How to train on this machine. The description of a setting has the rule of its "auto"."""

    mode: Literal["lora", "full"] = Field(
        default="lora",
        description="lora trains an adapter next to the frozen model; full trains all weights, in float32.",
    )
    adapter: Adapter = Field(default=Adapter(), description="The adapter of mode lora; unused in mode full.")
    quantize: Literal["none", "nf4"] = Field(
        default="none",
        description="nf4 keeps the frozen weights under an adapter in 4 bits (QLoRA): an eighth of float32's memory, "
        "and slower; needs the extra tuneport[quantized]. In use and in exports the base is unchanged.",
    )
    learning_rate: float | Auto = Field(
        default="auto",
        description=f"Peak learning rate. {describe('learning_rate')}.",
    )
    beta: Annotated[float, Field(gt=0)] | Auto = Field(
        default="auto",
        description="Method dpo: how closely the tuned model is held to its base; the smaller, the further it may move "
        "away. Method orpo: the weight of the odds ratio next to the loss of the chosen answer, the paper's lambda. "
        f"{describe('beta')}.",
    )
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=0.5,
        description="Method dpo only: the share of pairs that are assumed to have swapped labels.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="How the learning rate falls after the warm-up: cosine and linear end at 0."
    )
    warmup: Natural | Auto = Field(default="auto", description=f"Steps of linear warm-up. {describe('warmup')}.")
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's weight decay, on matrices only.")
    max_grad_norm: float = Field(
        default=1.0, gt=0, description="Gradients are scaled down to this norm when theirs is larger."
    )
    tokens_per_step: Positive | Auto = Field(
        default="auto",
        description="Tokens of one optimizer step, prompts included; complete rows, so about that many. "
        f"{describe('tokens_per_step')}.",
    )
    tokens_per_batch: Positive | Auto = Field(
        default="auto",
        description="Most tokens in memory at once; a step is split into such micro-batches, which changes nothing "
        f"but memory and speed. {describe('tokens_per_batch')}.",
    )
    packing: bool | Auto = Field(
        default="auto",
        description="Rows of a micro-batch follow one another, without padding and without seeing each other. "
        f"{describe('packing')}.",
    )
    max_tokens: Annotated[int, Field(ge=8)] | Auto = Field(
        default="auto", description=f"Longest row in tokens. {describe('max_tokens')}."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Arithmetic of the forward and backward pass; trained weights are always float32. "
        f"{describe('precision')}.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto",
        description=f"Where to train. {describe('device')}.",
    )
    threads: Positive | Auto = Field(default="auto", description=f"CPU threads. {describe('threads')}.")
    activation_checkpointing: bool | Auto = Field(
        default="auto",
        description=f"Compute activations twice instead of keeping them. {describe('activation_checkpointing')}.",
    )
    compile: bool | Auto = Field(
        default="auto",
        description="Compile the model's layers by torch.compile, which takes half a minute or more at the start; "
        f"where it fails, a warning reports it and training continues without. {describe('compile')}.",
    )
    evaluate_every: Positive | Auto = Field(
        default="auto",
        description="Steps between two evaluations on the validation rows; the last step is always evaluated. "
        f"{describe('evaluate_every')}.",
    )
    patience: Positive | Auto | None = Field(
        default="auto",
        description="Stop after this many evaluations in a row without a better validation loss; null never stops "
        f"early. {describe('patience')}. Without validation rows training never stops early.",
    )
    checkpoint_every: Positive | Auto = Field(
        default="auto",
        description=f"Steps between two checkpoints. {describe('checkpoint_every')}. The interval never changes the "
        "result.",
    )
    keep_checkpoints: int = Field(
        default=2, ge=1, description="How many of the newest checkpoints are kept, in addition to the best."
    )
    export: Literal["none", "adapter", "merged", "gguf"] = Field(
        default="none", description="What to write next to the model when training is over, for use with other tools."
    )
    usd_per_hour: float | None = Field(
        default=None,
        ge=0,
        description="The cost of an hour on this machine in US dollars, for plans and budgets. null: none.",
    )
    slots: Positive | Auto = Field(
        default="auto", description=f"Jobs that may train on this device at the same time. {describe('slots')}."
    )
    trust_remote_code: bool = Field(
        default=False, description="Run code that comes with the base model; requires a base pinned as name@revision."
    )

    @model_validator(mode="after")
    def _quantized_weights_stay_frozen(self) -> TorchSettings:
        if self.quantize != "none" and self.mode == "full":
            raise ValueError("weights in 4 bits cannot be trained: leave out quantize, or set mode to lora")
        return self


def check_method(settings: TorchSettings, method: str) -> None:
    """Raise ConfigError for a setting that the method does not use."""
    if settings.label_smoothing and method != "dpo":
        raise ConfigError(
            f"backends.torch.label_smoothing belongs to method dpo; {method} has none.",
            remedy="Leave it out, or set train.method to dpo.",
            key="backends.torch.label_smoothing",
        )
