"""What can be set about a server: by a config's `serve` section, and over it by options of the command."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import psutil
from pydantic import AfterValidator, Field, StrictInt
from pydantic_core import PydanticCustomError

from tuneport.errors import ConfigError, RefError, UsageError
from tuneport.plugin import Ref, Settings, find_ref, load_section, local_path

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,255}")
_Number = Annotated[StrictInt, Field(ge=1)]


class Limits(Settings):
    """The limits of the server; sizes are in bytes."""

    json_bytes: _Number = Field(default=8 * 2**20, description="of a request's JSON body")
    file_bytes: _Number = Field(default=512 * 2**20, description="of an uploaded file")
    part_bytes: _Number = Field(default=64 * 2**20, description="of one part of an upload in parts")
    upload_bytes: _Number = Field(default=8 * 2**30, description="of a file that is uploaded in parts")
    file_rows: _Number = Field(default=3_000_000, description="lines of an uploaded file")
    expanded_bytes: _Number = Field(default=2 * 2**30, description="of a compressed file, once it is expanded")
    checks: _Number = Field(default=2, description="files checked at the same time, each in a process of its own")
    starts: _Number = Field(default=2, description="jobs started at the same time, each in a process of its own")
    check_seconds: _Number = Field(default=600, description="that the check of a file, or of a job's rows, may take")
    check_memory: _Number = Field(default=2**30, description="that the check of a file, or of a job's rows, may take")
    start_seconds: _Number = Field(
        default=14_400, description="that a backend may take for a job whose rows are checked, such as to upload them"
    )
    total_bytes: _Number = Field(default=50 * 2**30, description="of all files of all tokens")
    files: _Number = Field(default=10_000, description="of one token")
    open_jobs: _Number = Field(default=100, description="of one token, not over yet")
    answer_tokens: _Number = Field(
        default=4096, description="the most that an answer may have; a request for more gets these"
    )
    answer_default: _Number = Field(default=512, description="tokens of an answer whose request names none")
    choices: _Number = Field(default=16, description="answers to one request (`n`)")
    batch: _Number = Field(default=32, description="conversations answered together")
    waiting: _Number = Field(default=256, description="requests of one token that wait for models")
    models: _Number = Field(default=8, description="kept loaded at the same time")
    model_bytes: _Number | None = Field(
        default=None, description="weights of the models that are kept loaded; half of the machine's memory when absent"
    )
    silence_seconds: _Number = Field(
        default=30, description="without progress: no byte of a body comes, or the client takes nothing of an answer"
    )
    head_seconds: _Number = Field(default=20, description="for a request's head to arrive, and for the form of a login")
    body_seconds: _Number = Field(default=3600, description="for one body to arrive")
    least_rate: _Number = Field(
        default=1024, description="bytes per second that a head or a body must bring, after a grace period"
    )
    requests: _Number = Field(default=512, description="under way at the same time, with a token")
    open_requests: _Number = Field(default=32, description="under way at the same time, without a token")
    address_connections: _Number = Field(
        default=1024,
        description="open at the same time from one address; raise it for a reverse proxy on another machine",
    )
    connections: _Number | None = Field(
        default=None,
        description="open at the same time; what the limit of open files allows, 4,096 at most, when absent",
    )
    threads: _Number = Field(default=16, description="for expensive requests; one token uses at most half of them")
    thread_queue: _Number = Field(default=64, description="expensive requests of one token that wait for a thread")

    @property
    def memory(self) -> int:
        """The bytes that loaded models may take together."""
        return self.model_bytes or psutil.virtual_memory().total // 2

    def changed(self, texts: Iterable[str]) -> Limits:
        """With `name=number` texts applied; raises UsageError for another name or no number."""
        known = type(self).model_fields
        values: dict[str, int] = {}
        for text in texts:
            name, _, number = text.partition("=")
            if name not in known:
                near = get_close_matches(name.lower(), known, 1)
                meant = f"; did you mean {near[0]!r}?" if near else "."
                names = ", ".join(sorted(known))
                raise UsageError(f"{name!r} is no limit{meant}", remedy=f"Write NAME=NUMBER; the names are {names}.")
            if not number.isdecimal() or not 0 < int(number) < 2**62:
                raise UsageError(
                    f"{text!r} does not say how much.", remedy=f"Write a whole number above 0, such as {name}=8."
                )
            values[name] = int(number)
        return self.model_copy(update=values)


def _name(value: str) -> str:
    if not _MODEL_NAME.fullmatch(value):
        raise PydanticCustomError(
            "name", "should have at most 100 letters, digits, - . and _, and begin with a letter or digit"
        )
    return value


def _alias(value: str) -> str:
    if not _ALIAS.fullmatch(value):
        raise PydanticCustomError(
            "alias", "should have at most 256 letters, digits, - . _ : / and @, and begin with a letter or digit"
        )
    return value


def _ref(value: str) -> str:
    try:
        return str(find_ref(value))
    except RefError as error:
        raise PydanticCustomError("ref", "{told}", {"told": f"{error.message} {error.remedy}"}) from None


class ServeSettings(Settings):
    """What `tuneport serve` serves, where, and within which bounds. A run does not look at it."""

    models: dict[Annotated[str, AfterValidator(_name)], Annotated[str, AfterValidator(_ref)]] = Field(
        default_factory=dict,
        examples=[{"small": "torch:smollm2-135m"}],
        description="The base models: the name that clients ask for, and the ref it stands for; those that are on the "
        "machine when absent. A path that starts with `.` is relative to the config file's folder.",
    )
    aliases: dict[Annotated[str, AfterValidator(_alias)], Annotated[str, AfterValidator(_ref)]] = Field(
        default_factory=dict,
        examples=[{"ft:gpt-4.1-mini-2025-04-14:acme:tickets:abc123": "torch:tickets-k3vd"}],
        description="Further names that clients may ask for, such as a model's name at a vendor, and the base or tuned "
        "model that answers. Every token may ask them.",
    )
    host: str = Field(default="127.0.0.1", description="Where to listen.")
    port: Annotated[StrictInt, Field(ge=0, le=65535)] = Field(default=8137, description="0 takes any free one.")
    allow_hosts: tuple[str, ...] = Field(
        default=(), examples=[["gpu-box.lan"]], description="Other names by which this server is called."
    )
    limits: Limits = Field(default_factory=Limits, description="The limits of the server.")

    def changed(
        self,
        *,
        models: str | None = None,
        aliases: Iterable[str] | None = None,
        host: str | None = None,
        port: int | None = None,
        allow_hosts: Sequence[str] | None = None,
        limits: Iterable[str] | None = None,
    ) -> ServeSettings:
        """With what the command line gives over it: models as `NAME=REF,…`, aliases as `NAME=REF` each, limits as
        `NAME=NUMBER` each, and names to allow beside those that are allowed already. Raises UsageError.
        """
        values: dict[str, Any] = {
            "models": _pairs(models) if models is not None else self.models,
            "aliases": {**self.aliases, **_aliases(aliases or ())},
            "host": self.host if host is None else host,
            "port": self.port if port is None else port,
            "allow_hosts": (*self.allow_hosts, *(allow_hosts or ())),
            "limits": self.limits.changed(limits or ()),
        }
        return self.model_copy(update=values)

    def refs(self) -> dict[str, Ref]:
        """The named base models."""
        return {name: Ref.parse(ref) for name, ref in self.models.items()}

    def alias_refs(self) -> dict[str, Ref]:
        """The models that answer to other names."""
        return {name: Ref.parse(ref) for name, ref in self.aliases.items()}


def read_settings(path: Path | None) -> ServeSettings:
    """The `serve` section of a config file; the defaults without one. Raises ConfigError."""
    if path is None:
        return ServeSettings()
    if not local_path(path).exists():
        raise ConfigError(
            f"{path}: there is no such file.",
            remedy="Write it, such as: serve: {models: {small: torch:smollm2-135m}}",
            file=str(path),
        )
    section = load_section(path, "serve", ServeSettings)
    folder = local_path(path).absolute().parent
    sections = {"models": section.models, "aliases": section.aliases}
    return section.model_copy(
        update={key: {name: _from(folder, ref) for name, ref in one.items()} for key, one in sections.items()}
    )


def _from(folder: Path, text: str) -> str:
    ref = Ref.parse(text)
    return str(Ref(ref.backend, os.path.normpath(folder / ref.name))) if ref.name.startswith(".") else text


def _aliases(texts: Iterable[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for text in texts:
        name, equals, ref = text.partition("=")
        if not equals or not _ALIAS.fullmatch(name) or not ref:
            raise UsageError(
                f"{text!r} does not name a model.",
                remedy="Write NAME=REF, such as ft:gpt-4.1-mini-2025-04-14:acme:tickets:abc123=torch:tickets-k3vd.",
            )
        if name in names:
            raise UsageError(f"The alias {name!r} is given twice.", remedy="Give each name one model.")
        names[name] = str(find_ref(ref))
    return names


def _pairs(text: str) -> dict[str, str]:
    names: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        name, equals, ref = pair.partition("=")
        if not equals or not _MODEL_NAME.fullmatch(name) or name in names:
            raise UsageError(
                f"{pair!r} does not name a model.",
                remedy="Write NAME=REF, with commas between and each name once, such as small=torch:smollm2-135m.",
            )
        names[name] = str(find_ref(ref))
    if not names:
        raise UsageError("No model is named.", remedy="Write for example: --models small=torch:smollm2-135m")
    return names
