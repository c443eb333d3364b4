"""The settings of `backends.openai`, and of every other profile's section."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tuneport.plugin import Settings
from tuneport_openai.graders import TYPES, Grader

Auto = Literal["auto"]
# The bound belongs to the number: a bound on the whole field would be asked of the word "auto" too.
Above0 = Annotated[float, Field(gt=0)]
Batch = Annotated[int, Field(ge=1, le=256)]
Beta = Annotated[float, Field(gt=0, le=2)]
Compute = Annotated[float, Field(gt=0.00001, le=10)]
Count = Annotated[int, Field(ge=1)]


class Wandb(Settings):
    """Metrics of the job, sent by the vendor to Weights & Biases; the key for that is in the vendor's settings."""

    project: str = Field(description="The project there.")
    name: str | None = Field(default=None, description="The run's name there; the job's id when absent.")
    entity: str | None = Field(default=None, description="The user or team there.")
    tags: tuple[str, ...] = Field(default=(), description="Tags of the run there.")


class OpenAISettings(Settings):
    """How to train over the OpenAI wire; `azure` and every profile of your own take the same keys, under their names.
    Every "auto" is left to the server, which sees the data.
    """

    learning_rate_multiplier: Above0 | Auto = Field(
        default="auto",
        description="Factor on the learning rate that the server chooses; this wire has no absolute rate.",
    )
    batch_size: Batch | Auto = Field(default="auto", description="Rows of one step, 1 to 256.")
    beta: Beta | Auto = Field(
        default="auto", description="Method dpo: how strongly the tuned model is held to its base, above 0 to 2."
    )
    grader: Grader | None = Field(
        default=None,
        description="Method reinforcement: what rewards an answer. Templates see the row's last answer as "
        "`{{item.reference_answer}}`.",
        examples=[
            {
                "type": "string_check",
                "name": "same",
                "input": "{{sample.output_text}}",
                "reference": "{{item.reference_answer}}",
                "operation": "eq",
            }
        ],
    )
    reasoning_effort: Literal["default", "low", "medium", "high"] | None = Field(
        default=None, description="Method reinforcement: how long the model may think."
    )
    compute_multiplier: Compute | Auto = Field(
        default="auto", description="Method reinforcement: factor on the compute for exploring answers, up to 10."
    )
    eval_interval: Count | Auto = Field(
        default="auto", description="Method reinforcement: training steps between two evaluations."
    )
    eval_samples: Count | Auto = Field(
        default="auto", description="Method reinforcement: answers to each row of an evaluation."
    )
    wandb: Wandb | None = Field(default=None, description="Where the vendor sends metrics.")
    training_type: Literal["Standard", "GlobalStandard", "Developer"] | None = Field(
        default=None, description="Azure only: the tier that the training is billed by."
    )
    deploy: bool = Field(
        default=False,
        description="Azure only: deploy the tuned model when it is first asked, which is billed by the hour until "
        "`tuneport delete`. Otherwise it has to be deployed in the portal.",
    )
    usd_per_million_tokens: float | None = Field(
        default=None,
        ge=0,
        description="What a million training tokens cost you; plans and budgets count with it. null: the plugin's "
        "dated table, which says unknown where nobody knows.",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_absolute_rate(cls, values: Any) -> Any:
        if isinstance(values, dict) and "learning_rate" in values:
            raise PydanticCustomError(
                "learning_rate",
                "this wire takes no learning_rate: the server chooses the rate for the model, and "
                "learning_rate_multiplier scales it (1 leaves it as it is). Leave learning_rate out here; the torch "
                "section may keep it",
            )
        return values

    @field_validator("grader", mode="before")
    @classmethod
    def _known_type(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("type") not in TYPES:
            raise PydanticCustomError("grader", "a grader's type is one of {known}", {"known": ", ".join(TYPES)})
        return value
