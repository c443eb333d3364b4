"""The base of every section of a config, and secrets that are named but never written."""

from __future__ import annotations

import os
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from tuneport.doors import AUTHORS, public
from tuneport.errors import ConfigError

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@public(AUTHORS)
class Settings(BaseModel):
    """The base of every section of a config, also of a plugin's: frozen, no unknown keys, finite numbers only.

    Describe each field with `Field(description=…)`: the description is what `tuneport init`, the JSON Schema and the
    documentation show.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


@public(AUTHORS)
class Secret:
    """The name of the environment variable that holds a key. A config contains and saves the name only.

    In a config it is written `${NAME}`. The value is read when it is needed, so it is in no model, file or message.

    >>> Secret("OPENAI_API_KEY")
    Secret('OPENAI_API_KEY')
    """

    __slots__ = ("variable",)

    def __init__(self, variable: str) -> None:
        self.variable = variable

    def reveal(self) -> str:
        """The value now; raises ConfigError when the variable is not set or empty."""
        value = os.environ.get(self.variable, "")
        if not value:
            raise ConfigError(
                f"The environment variable {self.variable} is not set.",
                remedy=f"Set it in the shell that runs this: export {self.variable}=…",
            )
        return value

    def __str__(self) -> str:
        return f"${{{self.variable}}}"

    def __repr__(self) -> str:
        return f"Secret({self.variable!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.variable == self.variable

    def __hash__(self) -> int:
        return hash(self.variable)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        del source, handler
        return core_schema.no_info_plain_validator_function(
            cls._read, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        del schema, handler
        return {"type": "string", "pattern": f"^{VARIABLE.pattern}$", "examples": ["${API_KEY}"]}

    @classmethod
    def _read(cls, value: object) -> Secret:
        if isinstance(value, Secret):
            return value
        found = VARIABLE.fullmatch(value) if isinstance(value, str) else None
        if not found:
            raise PydanticCustomError(
                "secret",
                "write the name of an environment variable as ${NAME}, not the secret itself",
            )
        return cls(found[1])
