"""The config of a run: all sections together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, PrivateAttr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tuneport.config.sections import BudgetConfig, CompareConfig, DataConfig, TrainConfig
from tuneport.config.source import Source
from tuneport.contract.settings import Settings
from tuneport.doors import public
from tuneport.errors import RefError
from tuneport.refs import Ref

_SECTIONS = ("data", "train", "backends", "budget", "compare", "serve")

_JOB = re.compile(r"[\w.-]+")  # a job's name without its backend, which the ledger knows

OWNED = ("backends", "serve")
"""Sections that plugins check, because they hold the settings of plugins."""


@public()
class RunConfig(Settings):
    """A run: which model to tune, on which rows, how, within which budget, and how to judge the result."""

    model: str = Field(
        examples=["torch:smollm2-135m"],
        description="The base model as `backend:name`. Change the backend to change where training runs. "
        "`torch:smollm2-135m` trains on this machine; a name that starts with `.`, `~` or `/` is a folder or file. To "
        "train a tuned model further, write its reference, its job's name, the start of that name, or `last` for the "
        "newest job. Write the name for a run that you may have to continue later, because `last` changes.",
    )
    data: DataConfig = Field(default_factory=DataConfig, description="The rows.")
    train: TrainConfig = Field(default_factory=TrainConfig, description="Portable training settings.")
    backends: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Settings of backends, each under its name. Only the section of the model's backend applies.",
    )
    budget: BudgetConfig = Field(default_factory=BudgetConfig, description="What the run may cost.")
    compare: CompareConfig = Field(
        default_factory=CompareConfig, description="How the tuned model is compared with its base."
    )
    serve: dict[str, Any] = Field(
        default_factory=dict,
        exclude=True,
        description="Settings of `tuneport serve --config`, checked by the server plugin. Not part of a run.",
    )

    _source: Source = PrivateAttr(default_factory=Source)

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, values: object) -> object:
        # In YAML, `data:` with nothing under it is None. Read it as a section without keys. An empty section of a
        # backend means the same as none.
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
        """The base model's reference. Raises RefError if `model` is the name of a job, which a run looks up."""
        return Ref.parse(self.model)

    @property
    def source(self) -> Source:
        """Where the values were read, for messages."""
        return self._source

    def section(self, backend: str) -> Mapping[str, Any]:
        """The raw settings of one backend; empty if the config has none."""
        return self.backends.get(backend, {})

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary with every default written out. Secrets are the names of their variables."""
        dumped: dict[str, Any] = self.model_dump(mode="json")
        return dumped

    def with_source(self, source: Source) -> RunConfig:
        """The same config with this source."""
        copy = self.model_copy()
        copy._source = source  # noqa: SLF001 - its own class, on a copy of itself
        return copy
