"""Writes the reference pages from the code. With `--check`, reports those that are out of date."""

from __future__ import annotations

import json
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

# Only our plugins: others that a developer has installed do not belong on the pages. The loader reads it on import.
os.environ["TUNEPORT_PLUGINS"] = ""

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tuneport.cli.app import EXIT_CODES, commands
from tuneport.config import RunConfig, json_schema
from tuneport.contract.settings import Secret
from tuneport.loader import load
from tuneport_server.settings import ServeSettings

FOLDER = Path(__file__).parent
NOTICE = "<!-- Written by docs/generate.py from the code: change it there, then run `make docs`. -->\n"

CONFIG_INTRODUCTION = """\
# Configuration

A run is one file, in YAML, TOML or JSON:

```yaml
# yaml-language-server: $schema=tune.schema.json
model: torch:smollm2-135m
data: {train: tickets.csv, validation: 0.05, holdout: 0.1}
train: {epochs: 3, suffix: tickets}
backends:
  torch: {learning_rate: 2e-4, adapter: {rank: 16}}
budget: {usd: 5}
compare: {grader: auto}
```

`tuneport init DATA` writes a commented config for your data. `tuneport run tune.yaml`, or `tuneport.run("tune.yaml")`
in Python, runs it. `tuneport schema > tune.schema.json` writes the JSON Schema that the first line names for your
editor.

- **Everything is checked before anything is spent.** An unknown key is an error with file, line, key and the most
  similar name, and all problems are reported together. The core checks its own keys, then the chosen backend checks its
  section. Sections of other backends are kept but not checked, so one file can configure several. `serve` is only for
  `tuneport serve --config`, and can be in a separate file.
- **Override from the command line**: `--set backends.torch.learning_rate=1e-4`, as often as you need. Values are YAML:
  `--set "backends.torch.adapter.targets=[q_proj, v_proj]"`.
- **Paths** are relative to the config file's folder. Paths in `--set` are relative to the current folder.
- **Secrets** are named, not written: `api_key: ${OPENAI_API_KEY}`. Only the name of the variable is read and saved.
  Anywhere else, `${…}` is an error.
- **YAML is YAML 1.2**: `1e-4` is a number, `no` is text, and a repeated key is an error.
- **Every job keeps its config**, with all defaults written out. Running the same config on the same rows finds the
  existing job. You can change `budget` and `compare` without starting another job.
"""


def config_page() -> str:
    """The page of all config keys, of the core and of our backends."""
    parts = [NOTICE, CONFIG_INTRODUCTION]
    top = {name: field for name, field in RunConfig.model_fields.items() if not _section(field)}
    parts.append("## The file\n\n" + _table(top))
    for name, field in RunConfig.model_fields.items():
        section = _section(field)
        if section:
            parts.append(_heading(f"`{name}`", section, 2) + _table(section.model_fields))
    shown: set[type[BaseModel]] = set()
    for name, backend in load().backends().items():
        if backend.settings_class not in shown:  # the profiles of one plugin share their keys
            parts += _owned_section(f"backends.{name}", backend.settings_class, 2)
            shown.add(backend.settings_class)
    parts += _owned_section("serve", ServeSettings, 2)
    return "\n".join(parts)


CLI_INTRODUCTION = """\
# Command line

`tuneport COMMAND --help` prints the same text as this page. Plugins can add commands: `profiles` comes with the
[hosted plugin](openai.md), `serve` and `access` come with the [server](server.md). They are at the end.

- **References** are `backend:name`, for base models, tuned models and jobs. A name that starts with `.`, `~` or `/` is
  a path. `tuneport jobs` and `tuneport models` list what there is. Every command that takes a reference also takes
  three shorter forms: `last` (the newest job), the name of a job without its backend, and the start of a job's name if
  only one job has it. If a base model or a folder has exactly that name too, the command stops and lists both.
- **Results go to stdout.** Progress, questions and remarks go to stderr. Without a terminal there are no bars, colors
  or wrapped lines, and progress is a line every ten seconds. On a terminal, lines wrap between words, and a table that
  does not fit is printed as several lines per row.
- **External text cannot control your terminal.** On stdout and stderr, also in a pipe, control characters and invisible
  characters appear as escapes: `\\x1b`, `\\x9b`, `\\u202e`, `\\u200b`. A line break inside a name or a field appears as
  `\\n`. Answers, previews and comparisons keep their line breaks and tabs. Emoji codes and markup are not interpreted.
  `--json` writes such characters as JSON escapes, which keep the value. A file that you name with `-o` gets the text
  unchanged. For the exact text of an answer, use `--json`.
- **`--json`** prints one JSON object with `"version": 1`. Within a version, keys are added but never changed.
  `watch --json` prints one such object a line for each event. An error is
  `{"version": 1, "error": {"type", "message", "remedy"}}`, with the same exit code as without `--json`.
- **Ctrl-C** during training stops the command, never the job.
- **Environment**: `TUNEPORT_HOME` is the folder of tuneport's data. `TUNEPORT_PLUGINS` lists the plugins to load in
  addition to ours (names of distributions, separated by commas). With `TUNEPORT_STRICT=1`, the error of a broken plugin
  is raised. `NO_COLOR` turns off colors.
- **Completion** for your shell: `tuneport --install-completion`. It completes jobs, models, graders, kinds, statuses,
  backends, and the keys and values of `--set`.
- **Proxies**: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` apply to everything outside this machine. A
  SOCKS proxy (`socks5://`) needs `pip install 'httpx[socks]'`, or `httpx2[socks]` with version 3 of the openai package.
"""


def cli_page() -> str:
    """The page of all commands with their arguments and options, and of the exit codes."""
    codes = [
        "## Exit codes\n",
        "| code | |",
        "|---|---|",
        *(f"| {code} | {_cell(meaning)} |" for code, meaning in EXIT_CODES.items()),
    ]
    parts = [NOTICE, CLI_INTRODUCTION, "\n".join(codes) + "\n", "## Commands\n"]
    for name, command in commands().items():
        usage = " ".join([one.metavar for one in command.params if one.param_type_name == "argument"] + ["[OPTIONS]"])
        parts.append(f"### {name}\n\n```\ntuneport {name} {usage}\n```\n\n{command.help}\n")
        rows = [f"| {_spelling(one)} | {_standard(one)} | {_cell(one.help)} |" for one in command.params]
        parts.append("\n".join(["| | default | |", "|---|---|---|", *rows]) + "\n" if rows else "")
    return "\n".join(part for part in parts if part)


def schema() -> str:
    """The JSON Schema that the examples name for editors."""
    sections = {name: backend.settings_class for name, backend in load().backends().items()}
    return json.dumps(json_schema(sections), ensure_ascii=False, indent=2) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "config.md": config_page,
    "cli.md": cli_page,
    "../examples/tune.schema.json": schema,
}


def _spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar}`"
    value = f" {parameter.metavar}" if parameter.metavar else ""
    names = ", ".join(f"`{name}{value}`" for name in [*parameter.opts, *parameter.secondary_opts])
    return f"{names}, repeatable" if parameter.multiple else names


def _standard(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.default, bool):
        names = parameter.opts if parameter.default else parameter.secondary_opts
        return f"`{names[0]}`" if names else ""
    return "" if parameter.default is None else f"`{parameter.default}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _owned_section(path: str, model: type[BaseModel], level: int) -> Iterator[str]:
    yield _heading(f"`{path}`", model, level) + _table(model.model_fields)
    for name, field in model.model_fields.items():
        inner = _sections(field)
        for one in inner:
            yield from _owned_section(f"{path}.{name}" + (_kind_of_section(one) if inner[1:] else ""), one, level + 1)


def _heading(title: str, model: type[BaseModel], level: int) -> str:
    summary = (model.__doc__ or "").strip().split("\n\n")[0]
    return f"{'#' * level} {title}\n\n{' '.join(summary.split())}\n\n"


def _table(fields: dict[str, FieldInfo]) -> str:
    rows = ["| key | value | default | |", "|---|---|---|---|"]
    for name, field in fields.items():
        cells = (f"`{name}`", _kind(field.annotation, field), _default(field), field.description or "")
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _section(field: FieldInfo) -> type[BaseModel] | None:
    return next(iter(_sections(field)), None)


def _sections(field: FieldInfo) -> list[type[BaseModel]]:
    """The models that a field may be. There are several if a key of theirs selects one."""

    def found(annotation: Any) -> Iterator[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        elif typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
            for one in typing.get_args(annotation):
                yield from found(one)

    return list(found(field.annotation))


def _kind_of_section(model: type[BaseModel]) -> str:
    return f" with type: {typing.get_args(model.model_fields['type'].annotation)[0]}"


_NAMES: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}


def _kind(annotation: Any, field: FieldInfo | None = None) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _NAMES:
        return _NAMES[annotation] + (_limits(field) if field else "")
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in inner)
    if origin is typing.Annotated:
        return _kind(inner[0], next((one for one in inner[1:] if isinstance(one, FieldInfo)), None))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(one, field) for one in inner if one is not type(None)))
    if origin in (list, tuple):
        return f"list of {_kind(inner[0])}"
    if origin is dict:
        return "section" if typing.get_origin(inner[1]) is dict else f"keys with {_kind(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section, see below"
    if annotation is Secret:
        return "`${NAME}`"
    return "path" if annotation is Path else "text"


def _limits(field: FieldInfo) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = [
        f"{word} {getattr(one, key)}" for one in field.metadata for key, word in words.items() if hasattr(one, key)
    ]
    return f" ({' and '.join(found)})" if found else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value == () or value == {} or isinstance(value, BaseModel):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def main(arguments: list[str]) -> int:
    """Write the pages. With `--check`, list those that are out of date, and return 1."""
    stale = []
    for name, page in PAGES.items():
        path, text = FOLDER / name, page()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"docs/{name} {'is out of date. Run: make docs' if '--check' in arguments else 'written'}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
