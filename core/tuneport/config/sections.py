"""The sections of a config that the core owns: data, train, budget, compare."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, StrictInt, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tuneport.contract.capabilities import Method
from tuneport.contract.request import TrainSettings
from tuneport.contract.schemas import read_schema
from tuneport.contract.settings import Settings
from tuneport.errors import OptionError


def _read_share(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d*\.?\d+([eE]-?\d+)?\s*", value):
        value = float(value)  # from the command line, where everything is text
    if isinstance(value, bool) or (isinstance(value, int | float) and not 0 <= value < 1):
        raise PydanticCustomError("share", "should be a share of the rows from 0 to below 1, such as 0.1, or a file")
    return value


class DataConfig(Settings):
    """The rows: where they are, how to read them, and which are held out from training."""

    train: str | None = Field(
        default=None,
        examples=["rows.csv"],
        description="The file to train on. A relative path is relative to this config file; `-` is standard input.",
    )
    validation: float | str | None = Field(
        default=None,
        examples=[0.05],
        description="Rows for early stopping and the best checkpoint, which are not trained on: a share "
        "of the rows, such as 0.05 (approximate, because rows are chosen by their content), or a file.",
    )
    holdout: float | str | None = Field(
        default=None,
        examples=[0.1],
        description="Held-out rows on which the tuned model is compared with its base: a share, such as 0.1 "
        "(approximate, because rows are chosen by their content), or a file.",
    )
    format: str = Field(
        default="auto",
        description="The kind of file: `jsonl`, `json`, `csv`, `tsv`, `parquet`, `xlsx`, `xls` or `ods`; `auto` uses "
        "the name, then the first bytes. What the columns mean is found from their names; see `columns`.",
    )
    encoding: str | None = Field(
        default=None,
        examples=["latin-1"],
        description="The encoding of text files that are not UTF-8; `tuneport check` suggests one.",
    )
    sheet: str | None = Field(
        default=None,
        examples=["Tickets"],
        description="The sheet of a workbook to read (default: the first).",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Which column has which meaning, if the names are not recognized.",
        examples=[{"prompt": "question", "completion": "answer"}],
    )
    system: str | None = Field(
        default=None,
        examples=["Answer in one word."],
        description="A system prompt for conversations that have none, in training and in use.",
    )
    on_error: Literal["stop", "skip"] = Field(
        default="stop",
        description="What to do if a row has an error: `stop` the run before it starts, or `skip` and count the row.",
    )
    too_long: Literal["stop", "drop", "truncate"] = Field(
        default="stop",
        description="What to do if a row is too long for the model: `stop` the run before it starts, `drop` the row, "
        "or `truncate` it. Dropped and truncated rows are counted.",
    )

    _shares = field_validator("validation", "holdout", mode="before")(_read_share)

    @model_validator(mode="after")
    def _check_shares(self) -> DataConfig:
        kept = sum(share for share in (self.validation, self.holdout) if isinstance(share, float))
        if kept >= 1:
            raise PydanticCustomError("shares", "validation and holdout together leave no rows to train on")
        return self


_SUFFIX = "[A-Za-z0-9][A-Za-z0-9_-]{0,39}"


class TrainConfig(Settings):
    """Portable settings, the same for every backend. A backend refuses what it cannot do before anything starts."""

    method: Method = Field(
        default="sft",
        description="`sft` trains the model to answer like the examples, `dpo` to prefer the better of two answers, "
        "`orpo` to do both at once, `reinforcement` to earn a grader's reward.",
    )
    epochs: Annotated[StrictInt, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="How many times training sees each row; `auto` lets the backend decide."
    )
    seed: Annotated[StrictInt, Field(ge=0, lt=2**31)] | None = Field(
        default=0,
        description="Determines the split, the order of the rows and any other randomness. With `null`, the backend "
        "chooses the seed of training, and the split is that of seed 0.",
    )
    suffix: str | None = Field(
        default=None,
        examples=["tickets"],
        json_schema_extra={"pattern": f"^{_SUFFIX}$"},
        description="The start of the job's and model's name: at most 40 letters, digits, - and _ (default: the "
        "data file's name).",
    )

    @field_validator("suffix")
    @classmethod
    def _plain_suffix(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(_SUFFIX, value):
            raise PydanticCustomError(
                "suffix", "should be at most 40 letters, digits, - and _, and start with a letter or digit"
            )
        return value

    @field_validator("epochs", mode="before")
    @classmethod
    def _number_in_text(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @property
    def row_seed(self) -> int:
        """The seed that determines which rows are held out or sampled."""
        return self.seed or 0

    def options(self, too_long: Literal["stop", "drop", "truncate"] = "stop") -> TrainSettings:
        """These settings in the form that backends receive."""
        return TrainSettings(
            method=self.method, epochs=self.epochs, seed=self.seed, suffix=self.suffix, too_long=too_long
        )


class BudgetConfig(Settings):
    """Limits of what the run may cost. A plan that exceeds one, or does not know, stops the run before it starts."""

    usd: float | None = Field(default=None, examples=[5], ge=0, description="The most the run may cost, in US dollars.")
    hours: float | None = Field(
        default=None, examples=[2], gt=0, description="The longest the training may take, in hours."
    )


class CompareConfig(Settings):
    """How the tuned model is compared with its base on the holdout rows."""

    grader: str = Field(
        default="auto",
        examples=["exact"],
        description="How an answer is scored from 0 to 1: `auto` (chosen by the answers), `exact`, `normalized`, "
        "`contains`, `json`, `token_f1`, `numeric`, or your own function as `module:function`.",
    )
    options: dict[str, bool | float] = Field(
        default_factory=dict,
        examples=[{"strict": True}],
        description="Options of the grader: `{strict: true}` makes `json` require all fields, `{tolerance: 0.01}` is "
        "the relative difference that `numeric` allows.",
    )
    rows: Annotated[StrictInt, Field(ge=1)] | None = Field(
        default=None,
        examples=[200],
        description="The most holdout rows to use, drawn by `train.seed` (default: all).",
    )
    max_tokens: Annotated[StrictInt, Field(ge=1)] | None = Field(
        default=None,
        examples=[64],
        description="The maximum length of an answer, in tokens (default: one and a half times the longest reference).",
    )
    json_schema: dict[str, Any] | None = Field(
        default=None,
        examples=[{"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}],
        description="A JSON Schema that every answer must follow. The base and the tuned model both follow it, so "
        "the comparison is about what they answer, not about who writes valid JSON. Needs a backend that supports a "
        "schema: `torch` with the extra `structured`, or a hosted one.",
    )
    base: bool = Field(default=True, description="Whether the base model answers too, for comparison.")
    record: str | None = Field(
        default=None,
        examples=["old"],
        description="A folder with the recorded answers of another model, as `tuneport move` writes it. They are "
        "graded on the same rows, and the report shows that model's training too. A relative path is relative to "
        "this config file.",
    )

    @field_validator("json_schema")
    @classmethod
    def _readable_schema(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            try:
                read_schema(value)
            except OptionError as error:
                raise PydanticCustomError("json_schema", "{why}", {"why": error.message}) from None
        return value
