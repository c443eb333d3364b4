"""Writes configs as commented YAML, and their JSON Schema for editors."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema
from pydantic_core import to_jsonable_python

from tuneport.config.load import resolve_path
from tuneport.config.models import RunConfig
from tuneport.doors import AUTHORS, public

_WIDTH = 100


@public(AUTHORS)
def commented_yaml(
    config: RunConfig,
    *,
    backends: Mapping[str, type[BaseModel]] | None = None,
    notes: Mapping[str, str] | None = None,
    folder: Path | None = None,
    schema: str | None = None,
) -> str:
    """The config as commented YAML: each key under its description, keys with their default value commented out.

    `notes` adds facts by dotted key (`{"data.train": "812 rows of text and label"}`). `backends` are the settings
    classes of backends whose sections are included too. Files in `folder` are written relative to it. `schema` is the
    URL of a JSON Schema, for editors. `load_config` reads the same config back.
    """
    writer = _Writer(notes or {}, folder)
    if schema:
        writer.lines += [f"# yaml-language-server: $schema={schema}", ""]
    for name, described in RunConfig.model_fields.items():
        value = getattr(config, name)
        if name == "backends":
            writer.backends(value, described, backends or {})
        elif isinstance(value, BaseModel):
            writer.section(name, described, type(value), value.model_dump(mode="json", exclude_defaults=True))
        elif value or name != "serve":
            writer.key((name,), described, value, given=True)
            writer.lines.append("")
    return "\n".join(writer.lines).rstrip("\n") + "\n"


def json_schema(backends: Mapping[str, type[BaseModel]] | None = None) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a config file, with the sections of these backends."""
    classes = dict(backends or {})
    references, schema = models_json_schema(
        [(RunConfig, "validation"), *((one, "validation") for one in classes.values())], ref_template="#/$defs/{model}"
    )
    definitions: dict[str, Any] = schema["$defs"]
    run = definitions.pop(references[RunConfig, "validation"]["$ref"].removeprefix("#/$defs/"))
    run["properties"]["backends"]["properties"] = {name: references[one, "validation"] for name, one in classes.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **run,
        "title": "tuneport run",
        "$defs": definitions,
    }


class _Writer:
    def __init__(self, notes: Mapping[str, str], folder: Path | None) -> None:
        self.lines: list[str] = []
        self.notes = notes
        self.folder = folder

    def section(self, name: str, described: FieldInfo, model: type[BaseModel], given: Mapping[str, Any]) -> None:
        self.comment(model.__doc__ or described.description or "", 0)
        self.lines.append(f"{name}:")  # a section with only comments is empty, so every key has its default
        self.keys((name,), model, given)
        self.lines.append("")

    def keys(self, path: tuple[str, ...], model: type[BaseModel] | None, given: Mapping[str, Any]) -> None:
        described = dict(model.model_fields) if model else {}
        for key, field in described.items():
            self.key((*path, key), field, given[key] if key in given else _sample(field), given=key in given)
        for key in given:
            if key not in described:
                self.key((*path, key), None, given[key], given=True)

    def backends(
        self, given: Mapping[str, Mapping[str, Any]], described: FieldInfo, classes: Mapping[str, type[BaseModel]]
    ) -> None:
        self.comment(described.description or "", 0)
        self.lines.append("backends:")
        for name in dict.fromkeys([*given, *classes]):
            self.lines.append(f"  {_flow(name)}:")
            self.keys(("backends", name), classes.get(name), given.get(name, {}))
        self.lines.append("")

    def key(self, path: tuple[str, ...], field: FieldInfo | None, value: Any, *, given: bool) -> None:
        indent = 2 * (len(path) - 1)
        note = self.notes.get(".".join(path), "")
        self.comment(" ".join(one for one in (field.description if field else "", note) if one), indent)
        if (path[0] == "data" or path == ("compare", "record")) and self.folder is not None:
            value = _relative(value, self.folder)
        text = f"{_flow(path[-1])}: {_flow(to_jsonable_python(value, fallback=str))}"
        self.lines.append(" " * indent + (text if given else f"# {text}"))

    def comment(self, text: str, indent: int) -> None:
        margin = " " * indent + "# "
        self.lines += textwrap.wrap(
            " ".join(text.split()), _WIDTH, initial_indent=margin, subsequent_indent=margin, break_long_words=False
        )


def _sample(field: FieldInfo) -> Any:
    """The value shown for a key that is not given: its default, or an example if the default is empty."""
    default = field.get_default(call_default_factory=True)
    return field.examples[0] if default in (None, (), [], {}) and field.examples else default


def _relative(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_relative(one, folder) for one in value]
    if isinstance(value, str) and Path(value).is_absolute() and Path(value).is_relative_to(folder):
        short = str(Path(value).relative_to(folder))
        # A name such as `0.1` or `s3:x` would not be read as a file.
        return short if short[0].isalpha() and resolve_path(short, folder) == value else value
    return value


def _flow(value: Any) -> str:
    """A JSON value on one line of YAML, valid as a value or as a key."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(one) for one in value) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    # YAML would fold Unicode line ends, and refuse control characters.
    return "".join(one if one.isprintable() else _escape(ord(one)) for one in quoted)


# Text that YAML cannot read as anything else, and that looks natural without quotes.
_PLAIN = re.compile(r"(?:\.{0,2}/|~/)?[A-Za-z_](?:[A-Za-z0-9_./@+-]|:(?=[A-Za-z0-9_./])| (?=[A-Za-z0-9_]))*")
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
