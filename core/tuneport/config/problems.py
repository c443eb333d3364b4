"""Turns pydantic's errors into messages with file, line, key and the most similar name. Values are never shown."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tuneport.config.source import KeyPath, Source, format_path
from tuneport.errors import ConfigError
from tuneport.printable import one_line
from tuneport.spelling import similar

M = TypeVar("M", bound=BaseModel)

_WORDS = {
    "Input should be a valid dictionary or instance of ": "should be a section with keys",
    "Input should be a valid dictionary": "should be a section with keys",
    "Input should be a valid integer": "should be a whole number",
    "Input should be a valid number": "should be a number",
    "Input should be a valid string": "should be text",
    "Input should be a valid boolean": "should be true or false",
    "Input should be a valid tuple": "should be a list",
    "Input should be a valid list": "should be a list",
    "Field required": "is missing",
}
_COMPARISONS = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
}


@dataclass(frozen=True)
class Problem:
    """A problem with one key of a config."""

    path: KeyPath
    message: str


def validate(model: type[M], raw: Mapping[str, Any], source: Source, prefix: KeyPath = ()) -> M:
    """Validate raw values, which are at `prefix` in the source. Raises one ConfigError that lists all problems."""
    try:
        return model.model_validate(dict(raw))
    except ValidationError as error:
        # `from None`: pydantic's error contains the input, which may be anything that the user typed.
        findings = error.errors(include_url=False, include_context=True, include_input=False)
        raise config_error(_problems(model, raw, findings, prefix), source) from None


def config_error(problems: Sequence[Problem], source: Source) -> ConfigError:
    """One error that lists the problems in the order of the file."""
    placed = []
    for problem in problems:
        where, line = source.locate(problem.path)
        placed.append((line or 0, f"{where}{problem.message}", line, format_path(problem.path)))
    placed.sort(key=lambda one: one[0])
    texts = [one_line(text) for _, text, _, _ in placed]
    lines = texts if len(texts) == 1 else [f"The config has {len(texts)} errors:", *(f"  {text}" for text in texts)]
    return ConfigError(
        "\n".join(lines),
        file=source.file,
        line=placed[0][2],
        key=placed[0][3] or None,
        problems=texts if len(texts) > 1 else (),
    )


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant, if any."""
    found = similar(name, names)
    return found[0] if found else None


def fields_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that a model allows at a path; empty if it does not describe them."""
    return sorted({name for one in _models_at(model, path) for name in one.model_fields})


def unknown_key(model: type[BaseModel], raw: Mapping[str, Any], path: KeyPath, prefix: KeyPath = ()) -> str:
    """The message about an unknown key: the most similar name, or where the key belongs."""
    key, names = str(path[-1]), fields_at(model, path[:-1])
    meant = nearest(key, names)
    if meant:
        return f"unknown key; did you mean {meant!r}?"
    elsewhere = [f"{name}.{key}" for name in model.model_fields if key in fields_at(model, (name,))]
    if not prefix and elsewhere:
        return f"unknown key; did you mean {elsewhere[0]!r}?"
    known = f"the keys here are {', '.join(names)}" if names else "no keys are allowed here"
    if not prefix and path[0] == "train":
        backend, colon, _ = str(raw.get("model", "")).partition(":")
        backend = backend if backend and colon else "NAME"  # a job's name alone does not include its backend
        return f"unknown key; {known}; settings of a backend are under backends.{backend}"
    return f"unknown key; {known}"


def _problems(
    model: type[BaseModel], raw: Mapping[str, Any], findings: Iterable[Any], prefix: KeyPath
) -> list[Problem]:
    messages: dict[KeyPath, list[str]] = {}
    for finding in findings:
        path = _real_path(raw, finding["loc"], missing=finding["type"] == "missing")
        unknown = finding["type"] == "extra_forbidden"
        message = unknown_key(model, raw, path, prefix) if unknown else _plain_words(finding)
        if finding["type"] == "missing":
            message += _example(model, path)
        known = messages.setdefault(path, [])
        if message not in known:
            known.append(message)
    # If a value may be a section or a word, and a key in the section is wrong, the error about the word is noise.
    inner = [path for path in messages if not any(path == other[: len(path)] != other for other in messages)]
    return [Problem((*prefix, *path), _join(messages[path])) for path in inner]


def _real_path(raw: Any, location: Sequence[str | int], *, missing: bool) -> KeyPath:
    """The part of pydantic's location that is in the raw values. The rest names branches of a union."""
    path: list[str | int] = []
    for part in location:
        inside = part in raw if isinstance(raw, dict) else isinstance(raw, list | tuple) and part in range(len(raw))
        if inside:
            raw = raw[part]
            path.append(part)
    return (*path, location[-1]) if missing else tuple(path)


def _example(model: type[BaseModel], path: KeyPath) -> str:
    fields = [one.model_fields.get(str(path[-1])) for one in _models_at(model, path[:-1])]
    examples = [str(example) for field in fields if field for example in field.examples or ()]
    return f"; for example, {path[-1]}: {examples[0]}" if examples else ""


def _plain_words(finding: Mapping[str, Any]) -> str:
    message: str = finding["msg"]
    for theirs, ours in _WORDS.items():
        if message.startswith(theirs):
            return ours
    for theirs, ours in _COMPARISONS.items():
        message = message.replace(f"should be {theirs} ", f"should be {ours} ")
    message = re.sub(r"^(Input|String|Value error,|Assertion failed,|Tuple|List|Dictionary)\s+", "", message)
    return message[:1].lower() + message[1:]


def _join(messages: Sequence[str]) -> str:
    # A union reports each of its branches: `should be a whole number or 'auto'`.
    if len(messages) > 1 and all(one.startswith("should be ") for one in messages):
        return "should be " + " or ".join(one.removeprefix("should be ") for one in messages)
    return "; ".join(messages)


def _models_at(model: type[BaseModel], path: KeyPath) -> set[type[BaseModel]]:
    models = {model}
    for part in path:
        if isinstance(part, str):
            annotations = [one.model_fields[part].annotation for one in models if part in one.model_fields]
            models = {found for annotation in annotations for found in _models_in(annotation)}
    return models


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {found for one in typing.get_args(annotation) for found in _models_in(one)}
