"""What a run is asked to be: the keys of a config file, each with its type and description."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, StrictInt, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tuneport.config.source import Source
from tuneport.contract.capabilities import Method
from tuneport.contract.request import TrainSettings
from tuneport.contract.schemas import read_schema
from tuneport.contract.settings import Settings
from tuneport.doors import public
from tuneport.errors import OptionError, RefError
from tuneport.refs import Ref


def _share(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d*\.?\d+([eE]-?\d+)?\s*", value):
        value = float(value)  # from the command line, where all is text
    if isinstance(value, bool) or (isinstance(value, int | float) and not 0 <= value < 1):
        raise PydanticCustomError("share", "should be a share of the rows from 0 to below 1, such as 0.1, or a file")
    return value


class DataConfig(Settings):
    """The rows: where they are, how to read them, and which are kept from training."""

    train: str | None = Field(
        default=None,
        examples=["rows.csv"],
        description="The file to train on. A relative path starts at this config file's folder; `-` is standard input.",
    )
    validation: float | str | None = Field(
        default=None,
        examples=[0.05],
        description="Rows that steer training (early stopping, the best checkpoint) and are not trained on: a share "
        "of the rows, such as 0.05 (approximate: rows are chosen by their content), or a file.",
    )
    holdout: float | str | None = Field(
        default=None,
        examples=[0.1],
        description="Rows that no training sees, to compare the tuned model with its base on: a share, such as "
        "0.1 (approximate: rows are chosen by their content), or a file.",
    )
    format: str = Field(
        default="auto",
        description="The files' format: `jsonl`, `json`, `csv`, `tsv`, `parquet`, `xlsx`, `xls` or `ods`; `auto` goes "
        "by the name, then by the first bytes.",
    )
    encoding: str | None = Field(
        default=None,
        examples=["latin-1"],
        description="The encoding of text files that are not UTF-8; `tuneport check` proposes one.",
    )
    sheet: str | None = Field(
        default=None,
        examples=["Tickets"],
        description="The sheet of a workbook to read; the first where none is named.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Which column holds what, where the names are not recognised.",
        examples=[{"prompt": "question", "completion": "answer"}],
    )
    system: str | None = Field(
        default=None,
        examples=["Answer in one word."],
        description="A system prompt put before conversations that have none, in training and in use.",
    )
    on_error: Literal["stop", "skip"] = Field(
        default="stop",
        description="What a row with an error does: `stop` the run before it starts, or `skip` and count it.",
    )
    too_long: Literal["stop", "drop", "truncate"] = Field(
        default="stop",
        description="What a row longer than the model takes does: `stop` the run before it starts, `drop` the row, or "
        "`truncate` it; both are counted.",
    )

    _shares = field_validator("validation", "holdout", mode="before")(_share)

    @model_validator(mode="after")
    def _leave_rows_to_train_on(self) -> DataConfig:
        kept = sum(share for share in (self.validation, self.holdout) if isinstance(share, float))
        if kept >= 1:
            raise PydanticCustomError("shares", "validation and holdout together leave no rows to train on")
        return self


_SUFFIX = "[A-Za-z0-9][A-Za-z0-9_-]{0,39}"


class TrainConfig(Settings):
    """Portable settings: understood by every backend, or refused before anything starts."""

    method: Method = Field(
        default="sft",
        description="`sft` learns to answer like the examples, `dpo` to prefer the better of two answers, "
        "`orpo` both at once, `reinforcement` from a grader's reward.",
    )
    epochs: Annotated[StrictInt, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="How many times training sees each row; `auto` leaves it to the backend's rule."
    )
    seed: Annotated[StrictInt, Field(ge=0, lt=2**31)] | None = Field(
        default=0,
        description="Fixes the split, the order of the rows and any other randomness. `null` leaves the seed of the "
        "training to the backend; the split is then the one of seed 0.",
    )
    suffix: str | None = Field(
        default=None,
        examples=["tickets"],
        json_schema_extra={"pattern": f"^{_SUFFIX}$"},
        description="The beginning of the job's and model's name, at most 40 letters, digits, - and _; the data "
        "file's name when absent.",
    )

    @field_validator("suffix")
    @classmethod
    def _plain_suffix(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(_SUFFIX, value):
            raise PydanticCustomError(
                "suffix", "should be at most 40 letters, digits, - and _, and begin with a letter or digit"
            )
        return value

    @field_validator("epochs", mode="before")
    @classmethod
    def _number_in_text(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @property
    def row_seed(self) -> int:
        """The seed that fixes which rows are held out or sampled."""
        return self.seed or 0

    def options(self, too_long: Literal["stop", "drop", "truncate"] = "stop") -> TrainSettings:
        """The same as a backend gets it."""
        return TrainSettings(
            method=self.method, epochs=self.epochs, seed=self.seed, suffix=self.suffix, too_long=too_long
        )


class BudgetConfig(Settings):
    """What the run may cost; a plan beyond it, or one that cannot say, stops the run before it starts."""

    usd: float | None = Field(
        default=None, examples=[5], ge=0, description="The most that the run may cost, in US dollars."
    )
    hours: float | None = Field(
        default=None, examples=[2], gt=0, description="The longest that the training may take, in hours."
    )


class CompareConfig(Settings):
    """How the tuned model is compared with its base on the holdout rows."""

    grader: str = Field(
        default="auto",
        examples=["exact"],
        description="How an answer is marked from 0 to 1: `auto` (chosen by the answers), `exact`, `normalised`, "
        "`contains`, `json`, `token_f1`, `numeric`, or a function of yours as `module:function`.",
    )
    options: dict[str, bool | float] = Field(
        default_factory=dict,
        examples=[{"strict": True}],
        description="The grader's own: `{strict: true}` lets `json` count all fields or nothing, `{tolerance: 0.01}` "
        "is the relative difference that `numeric` forgives.",
    )
    rows: Annotated[StrictInt, Field(ge=1)] | None = Field(
        default=None,
        examples=[200],
        description="At most so many holdout rows, drawn by `train.seed`; all of them when absent.",
    )
    max_tokens: Annotated[StrictInt, Field(ge=1)] | None = Field(
        default=None,
        examples=[64],
        description="The longest answer, in tokens; when absent, the longest reference and half as much again.",
    )
    json_schema: dict[str, Any] | None = Field(
        default=None,
        examples=[{"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}],
        description="A JSON Schema that every answer must follow. The base and the tuned model both follow it, so the "
        "comparison is of what they answer, not of who writes valid JSON. Needs a backend that takes a schema: "
        "`torch` with the extra `structured`, or a hosted one.",
    )
    base: bool = Field(
        default=True, description="Whether the base model answers too, to be shown beside the tuned one."
    )
    record: str | None = Field(
        default=None,
        examples=["old"],
        description="A folder with the recorded answers of another model, as `tuneport move` writes it. They are "
        "graded on the same rows, and the report shows that model's training too. A relative path starts at this "
        "config file's folder.",
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


_SECTIONS = ("data", "train", "backends", "budget", "compare", "serve")

_JOB = re.compile(r"[\w.-]+")  # how a job may be named without its backend; which one that is, the ledger knows

OWNED = ("backends", "serve")
"""What is checked not here but by the plugins whose settings it holds."""


@public()
class RunConfig(Settings):
    """A run: what to tune, on what, how, within what budget, and how to judge the result."""

    model: str = Field(
        examples=["torch:smollm2-135m"],
        description="The base model as `backend:name`: the one word that changes where training runs. "
        "`torch:smollm2-135m` is this machine; a name that starts with `.`, `~` or `/` is a folder or file. To train a "
        "tuned model further: its reference, its job's name, the beginning of that, or `last`, the newest job. What is "
        "newest changes: for a run that may have to be finished later, write the name.",
    )
    data: DataConfig = Field(default_factory=DataConfig, description="The rows.")
    train: TrainConfig = Field(default_factory=TrainConfig, description="Portable settings of training.")
    backends: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Settings of one backend each, under its name. Only the section of the model's backend applies.",
    )
    budget: BudgetConfig = Field(default_factory=BudgetConfig, description="What the run may cost.")
    compare: CompareConfig = Field(
        default_factory=CompareConfig, description="How the tuned model is compared with its base."
    )
    serve: dict[str, Any] = Field(
        default_factory=dict,
        exclude=True,
        description="Settings of `tuneport serve --config`, checked by the server plugin; no part of a run.",
    )

    _source: Source = PrivateAttr(default_factory=Source)

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, values: object) -> object:
        # `data:` with nothing under it is None to YAML, and a section without keys to whoever wrote it. A backend's
        # empty section says no more than none.
        if not isinstance(values, dict):
            return values
        filled = {key: {} if one is None and key in _SECTIONS else one for key, one in values.items()}
        if isinstance(filled.get("backends"), dict):
            filled["backends"] = {name: one for name, one in filled["backends"].items() if one not in (None, {})}
        return filled

    @field_validator("model")
    @classmethod
    def _is_a_ref(cls, value: str) -> str:
        try:
            return str(Ref.parse(value))
        except RefError:
            if _JOB.fullmatch(value.strip()):
                return value.strip()
            raise PydanticCustomError(
                "ref", "should be of the form backend:name, such as torch:smollm2-135m or torch:./my-model"
            ) from None

    @property
    def ref(self) -> Ref:
        """The base model's reference. Raises RefError where `model` is the name of a job, which a run looks up."""
        return Ref.parse(self.model)

    @property
    def source(self) -> Source:
        """Where the values were read: for messages."""
        return self._source

    def section(self, backend: str) -> Mapping[str, Any]:
        """The raw settings of one backend; empty when the config has none."""
        return self.backends.get(backend, {})

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary with every default spelled out; secrets are the names of their variables."""
        dumped: dict[str, Any] = self.model_dump(mode="json")
        return dumped

    def with_source(self, source: Source) -> RunConfig:
        """The same config, remembering where it was read."""
        copy = self.model_copy()
        copy._source = source  # noqa: SLF001 - its own class, on a copy of itself
        return copy
