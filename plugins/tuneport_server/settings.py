"""The settings of `tuneport serve`: a config's `serve` section, which options of the command override."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictInt
from pydantic_core import PydanticCustomError

from tuneport.errors import ConfigError, RefError, UsageError
from tuneport.plugin import Ref, Settings, find_ref, load_section, local_path
from tuneport_server.limits import ResourceLimits

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,255}")


def _name(value: str) -> str:
    if not _MODEL_NAME.fullmatch(value):
        raise PydanticCustomError(
            "name", "should have at most 100 letters, digits, - . and _, and start with a letter or digit"
        )
    return value


def _alias(value: str) -> str:
    if not _ALIAS.fullmatch(value):
        raise PydanticCustomError(
            "alias", "should have at most 256 letters, digits, - . _ : / and @, and start with a letter or digit"
        )
    return value


def _ref(value: str) -> str:
    try:
        return str(find_ref(value))
    except RefError as error:
        raise PydanticCustomError("ref", "{message}", {"message": f"{error.message} {error.remedy}"}) from None


class ServeSettings(Settings):
    """What `tuneport serve` serves, on which address, and within which limits. Runs ignore this section."""

    models: dict[Annotated[str, AfterValidator(_name)], Annotated[str, AfterValidator(_ref)]] = Field(
        default_factory=dict,
        examples=[{"small": "torch:smollm2-135m"}],
        description="The base models: the name that clients use, and the ref it stands for. By default all base models "
        "on this machine. A path that starts with `.` is relative to the config file's folder.",
    )
    aliases: dict[Annotated[str, AfterValidator(_alias)], Annotated[str, AfterValidator(_ref)]] = Field(
        default_factory=dict,
        examples=[{"ft:gpt-4.1-mini-2025-04-14:acme:tickets:abc123": "torch:tickets-k3vd"}],
        description="More names that clients can use, such as a model's name at a vendor, and the base or tuned model "
        "that answers. Every access token can use them.",
    )
    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: Annotated[StrictInt, Field(ge=0, le=65535)] = Field(
        default=8137, description="The port to listen on; 0 for any free one."
    )
    allow_hosts: tuple[str, ...] = Field(
        default=(), examples=[["gpu-box.lan"]], description="More names that the Host header may have."
    )
    limits: ResourceLimits = Field(default_factory=ResourceLimits, description="Resource limits.")

    def with_changes(
        self,
        *,
        models: str | None = None,
        aliases: Iterable[str] | None = None,
        host: str | None = None,
        port: int | None = None,
        allow_hosts: Sequence[str] | None = None,
        limits: Iterable[str] | None = None,
    ) -> ServeSettings:
        """Return the settings with options of the command line applied: `models` as `NAME=REF,…`, each of `aliases` as
        `NAME=REF`, each of `limits` as `NAME=NUMBER`, and `allow_hosts` in addition to those here. Raises UsageError.
        """
        values: dict[str, Any] = {
            "models": _pairs(models) if models is not None else self.models,
            "aliases": {**self.aliases, **_aliases(aliases or ())},
            "host": self.host if host is None else host,
            "port": self.port if port is None else port,
            "allow_hosts": (*self.allow_hosts, *(allow_hosts or ())),
            "limits": self.limits.with_changes(limits or ()),
        }
        return self.model_copy(update=values)

    def refs(self) -> dict[str, Ref]:
        """Return the base models that are listed."""
        return {name: Ref.parse(ref) for name, ref in self.models.items()}

    def alias_refs(self) -> dict[str, Ref]:
        """Return the models of the aliases."""
        return {name: Ref.parse(ref) for name, ref in self.aliases.items()}


def read_settings(path: Path | None) -> ServeSettings:
    """Read the `serve` section of a config file; the defaults without a file. Raises ConfigError."""
    if path is None:
        return ServeSettings()
    if not local_path(path).exists():
        raise ConfigError(
            f"{path}: No such file.",
            remedy="Create it, for example with: serve: {models: {small: torch:smollm2-135m}}",
            file=str(path),
        )
    section = load_section(path, "serve", ServeSettings)
    folder = local_path(path).absolute().parent
    sections = {"models": section.models, "aliases": section.aliases}
    return section.model_copy(
        update={key: {name: _resolve_ref(folder, ref) for name, ref in one.items()} for key, one in sections.items()}
    )


def _resolve_ref(folder: Path, text: str) -> str:
    ref = Ref.parse(text)
    return str(Ref(ref.backend, os.path.normpath(folder / ref.name))) if ref.name.startswith(".") else text


def _aliases(texts: Iterable[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for text in texts:
        name, equals, ref = text.partition("=")
        if not equals or not _ALIAS.fullmatch(name) or not ref:
            raise UsageError(
                f"{text!r} is not of the form NAME=REF.",
                remedy="Write for example: ft:gpt-4.1-mini-2025-04-14:acme:tickets:abc123=torch:tickets-k3vd.",
            )
        if name in names:
            raise UsageError(f"The alias {name!r} is given twice.", remedy="Give it once.")
        names[name] = str(find_ref(ref))
    return names


def _pairs(text: str) -> dict[str, str]:
    names: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        name, equals, ref = pair.partition("=")
        if not equals or not _MODEL_NAME.fullmatch(name) or name in names:
            raise UsageError(
                f"{pair!r} is not of the form NAME=REF, or repeats a name.",
                remedy="Separate models by commas, such as: small=torch:smollm2-135m,large=torch:./my-model",
            )
        names[name] = str(find_ref(ref))
    if not names:
        raise UsageError("--models is empty.", remedy="Write for example: --models small=torch:smollm2-135m")
    return names
