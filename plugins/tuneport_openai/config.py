"""The settings of `backends.openai`, and of the section of every other profile."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tuneport.plugin import Settings
from tuneport_openai.graders import TYPES, Grader

Auto = Literal["auto"]
# The bound belongs to the number: a bound on the field would apply to the word "auto" too.
Above0 = Annotated[float, Field(gt=0)]
Batch = Annotated[int, Field(ge=1, le=256)]
Beta = Annotated[float, Field(gt=0, le=2)]
Compute = Annotated[float, Field(gt=0.00001, le=10)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=0.1)]
Share = Annotated[float, Field(ge=0, le=1)]

_PRICE: Any = Field(
    default=None,
    ge=0,
    description="The price of a million training tokens, for plans and budgets. null: the plugin's dated table, in "
    "which a price that is not published is unknown.",
)


class Wandb(Settings):
    """Metrics of the job, which the vendor sends to Weights & Biases; the key for it is in the vendor's settings."""

    project: str = Field(description="The project there.")
    name: str | None = Field(default=None, description="The run's name there; the job's id when absent.")
    entity: str | None = Field(default=None, description="The user or team there.")
    tags: tuple[str, ...] = Field(default=(), description="Tags of the run there.")


class OpenAISettings(Settings):
    """How to train over the OpenAI API; `azure` and profiles that you add take the same keys, under their own names.
    Every "auto" is left to the server, which sees the data.
    """

    learning_rate_multiplier: Above0 | Auto = Field(
        default="auto",
        description="Factor on the learning rate that the server chooses; this API has no absolute rate.",
    )
    batch_size: Batch | Auto = Field(default="auto", description="Rows of one step, 1 to 256.")
    beta: Beta | Auto = Field(
        default="auto",
        description="Method dpo: how closely the tuned model is held to its base, above 0 and up to 2.",
    )
    grader: Grader | None = Field(
        default=None,
        description="Method reinforcement: what scores an answer. Templates see the row's last answer as "
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
        default=None, description="Azure only: the tier by which training is billed."
    )
    deploy: bool = Field(
        default=False,
        description="Azure only: deploy the tuned model when it is first used, which is billed by the hour until "
        "`tuneport hosting stop`. Otherwise, deploy it yourself: `tuneport hosting start`.",
    )
    usd_per_million_tokens: float | None = _PRICE

    @model_validator(mode="before")
    @classmethod
    def _refuse_absolute_rate(cls, values: Any) -> Any:
        if isinstance(values, dict) and "learning_rate" in values:
            raise PydanticCustomError(
                "learning_rate",
                "this API takes no learning_rate: the server chooses the rate for the model, and "
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

    def hyperparameters(self, method: str, epochs: int | Auto) -> dict[str, Any]:
        """The hyperparameters of a job, by the API's names, with "auto" where the server chooses."""
        values: dict[str, Any] = {
            "n_epochs": epochs,
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
        }
        if method == "dpo":
            values["beta"] = self.beta
        if method == "reinforcement" and self.grader is not None:
            names = ("compute_multiplier", "eval_interval", "eval_samples", "reasoning_effort")
            values |= {name: getattr(self, name) for name in names if getattr(self, name) not in (None, "auto")}
        return values


class NebiusSettings(Settings):
    """How to train at Nebius Token Factory. Nebius documents the default of every "auto"."""

    learning_rate: Rate | Auto = Field(
        default="auto", description="The learning rate, as an absolute number; Nebius' default is 1e-5."
    )
    batch_size: Count | Auto = Field(default="auto", description="Rows of one step; Nebius' default is 8.")
    lora: bool = Field(
        default=True,
        description="Train an adapter, which Nebius serves without a deployment. false trains all weights, which can "
        "only be downloaded or deployed at Nebius.",
    )
    lora_r: Count | Auto = Field(default="auto", description="Rank of the adapter; Nebius' default is 8.")
    lora_alpha: Count | Auto = Field(default="auto", description="Scale of the adapter; Nebius' default is 8.")
    lora_dropout: Share | Auto = Field(default="auto", description="Dropout of the adapter; Nebius' default is 0.")
    warmup_ratio: Share | Auto = Field(
        default="auto", description="Share of the steps in which the learning rate rises; Nebius' default is 0."
    )
    weight_decay: Share | Auto = Field(default="auto", description="Weight decay; Nebius' default is 0.")
    max_grad_norm: Above0 | Auto = Field(
        default="auto", description="Norm to which gradients are clipped; Nebius' default is 1."
    )
    packing: bool | Auto = Field(
        default="auto", description="Whether several rows share one sequence; Nebius' default is true."
    )
    context_length: Count | Auto = Field(
        default="auto", description="Tokens of the longest sequence; Nebius' default is 8192."
    )
    usd_per_million_tokens: float | None = _PRICE

    @model_validator(mode="before")
    @classmethod
    def _refuse_multiplier(cls, values: Any) -> Any:
        if isinstance(values, dict) and "learning_rate_multiplier" in values:
            raise PydanticCustomError(
                "learning_rate_multiplier",
                "Nebius takes no learning_rate_multiplier, and may use one as the learning rate itself. Set "
                "learning_rate to an absolute number, such as 1e-5, or leave both out",
            )
        return values

    def hyperparameters(self, method: str, epochs: int | Auto) -> dict[str, Any]:
        """The hyperparameters of a job, by Nebius' names, with "auto" where Nebius' default applies."""
        del method
        values = self.model_dump(exclude={"usd_per_million_tokens"})
        if not self.lora:
            values = {name: value for name, value in values.items() if not name.startswith("lora_")}
        return {"n_epochs": epochs, **values}
