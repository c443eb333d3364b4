"""The settings of `backends.fireworks`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from tuneport.hosted import DeployedSettings

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1)]


class FireworksSettings(DeployedSettings):
    """How to train at Fireworks. It chooses every value that is "auto"."""

    learning_rate: Annotated[float, Field(gt=0, lt=1)] | Auto = Field(default="auto", description="The learning rate.")
    rank: Annotated[int, Field(ge=1, le=32)] | Auto = Field(
        default="auto", description="Rank of the LoRA adapter: a power of two, at most 32."
    )
    max_tokens: Count | Auto = Field(default="auto", description="The longest row in tokens.")
    batch_tokens: Count | Auto = Field(default="auto", description="Tokens of one batch, in which rows are packed.")
    batch_rows: Count | Auto = Field(default="auto", description="Rows of one batch.")
    gradient_accumulation: Count | Auto = Field(default="auto", description="Batches of one step.")
    warmup_steps: Annotated[int, Field(ge=0)] | Auto = Field(
        default="auto", description="Steps in which the learning rate rises from zero."
    )
    weight_decay: Annotated[float, Field(ge=0)] | Auto = Field(default="auto", description="Decay of the weights.")
    beta: Annotated[float, Field(gt=0, lt=0.5)] | Auto = Field(
        default="auto",
        description="Method dpo: how closely the tuned model is held to its base, above 0 and below 0.5.",
    )
    early_stop: bool = Field(
        default=False, description="Method sft: stop when the loss on the validation rows no longer falls."
    )
    idle_seconds: Annotated[int, Field(ge=300)] = Field(
        default=300, description="After how long without questions a deployment stops by itself, at least 300."
    )

    @field_validator("rank")
    @classmethod
    def _power_of_two(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value & (value - 1):
            raise ValueError("Fireworks takes a power of two: 1, 2, 4, 8, 16 or 32")
        return value
