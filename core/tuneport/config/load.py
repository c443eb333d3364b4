"""Reads a config from a file or from flags and checks it, and checks the sections of backends."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from tuneport.config.models import OWNED, RunConfig
from tuneport.config.problems import Problem, config_error, fields_at, nearest, unknown_key, validate
from tuneport.config.source import SET, KeyPath, Source, format_path, parse_value, read
from tuneport.contract.settings import VARIABLE, Secret
from tuneport.doors import AUTHORS, public
from tuneport.errors import ConfigError
from tuneport.homefolder import local_path

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Flag:
    """A value from the command line, and its option, such as `--epochs`, for messages."""

    option: str
    value: Any


_DATA_FILES = ("train", "validation", "holdout")


def load_config(path: str | Path, overrides: Sequence[str] = (), flags: Mapping[str, Any] | None = None) -> RunConfig:
    """The config of a YAML, TOML or JSON file. Flags, as in `config_from_flags`, replace its values, and overrides such
    as `backends.torch.learning_rate=1e-4` replace both.

    Values of overrides are read as YAML. Relative paths in the file are relative to its folder, those of flags and
    overrides to the current folder. Raises ConfigError, which lists every problem with file, line and key.
    `backend_settings` checks the sections under `backends`.
    """
    file = local_path(path)
    values, source = read(file, str(path))
    return _check(values, source, flags or {}, overrides, file.absolute().parent)


def config_from_flags(flags: Mapping[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """A config without a file: `{"model": "torch:…", "data.train": "rows.csv", "train.epochs": 3}`.

    None means not given. If a value is a `Flag`, messages name its option. Relative paths are relative to the current
    folder. Raises ConfigError.
    """
    return _check({}, Source(), flags, overrides, Path.cwd())


def backend_settings(config: RunConfig, name: str, settings_class: type[M]) -> M:
    """The section of one backend, checked by the backend's settings class; the defaults if the config has no section.

    Raises ConfigError like `load_config`.
    """
    return _check_section(settings_class, config.section(name), config.source, ("backends", name))


@public(AUTHORS)
def load_section(path: str | Path, name: str, settings_class: type[M]) -> M:
    """Read a section that a plugin owns, such as `serve`, and check it with the plugin's settings class. The file may
    hold a run too, or nothing else. Raises ConfigError like `load_config`.
    """
    values, source = read(local_path(path), str(path))
    problems = [
        Problem((key,), unknown_key(RunConfig, values, (key,))) for key in values if key not in RunConfig.model_fields
    ]
    raw = values.get(name, {})
    if name not in values and not problems:
        raise ConfigError(
            f"{path}: there is no section {name!r}.",
            remedy=f"Add `{name}:` with keys below it, or use the file that has it.",
            file=str(path),
        )
    if not isinstance(raw, dict | None):
        problems.append(Problem((name,), "should be a section with keys"))
    if problems:
        raise config_error(problems, source)
    return _check_section(settings_class, raw or {}, source, (name,))


def identity(config: RunConfig, settings: BaseModel | None = None, fingerprints: Sequence[str] = ()) -> str:
    """The SHA-256, in hex, of everything that affects the trained model: equal for runs that would train the same
    model.

    It covers the model, how the data is read and split, `train`, the section of the model's backend, and the data's
    fingerprints. It leaves out where the data is, secrets, `budget` and `compare`. Pass the backend's checked
    `settings` if you have them, so that a default that is written out makes no difference. Defaults are left out, so
    that a setting added in a later version does not turn a run that was paid for into a new one.
    """
    data = config.data.model_dump(mode="json", exclude={"train"}, exclude_defaults=True)
    # A fingerprint identifies the rows of a file. A holdout file does not affect training.
    if isinstance(data.get("validation"), str):
        data["validation"] = "file"
    if isinstance(data.get("holdout"), str):
        del data["holdout"]
    section = _without_secrets(
        config.section(config.ref.backend) if settings is None else settings.model_dump(exclude_defaults=True)
    )
    parts = {
        "version": 1,
        "model": config.model,
        "data": data,
        "train": config.train.model_dump(mode="json", exclude_defaults=True),
        "settings": section,
        "fingerprints": list(fingerprints),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def resolve_path(text: str, folder: Path) -> str:
    """Make a relative path absolute, from `folder`. `-`, `~/…`, absolute paths and URLs (`s3://…`) stay as they are."""
    if text == "-" or text.startswith(("/", "~")) or re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        return text
    return os.path.normpath(folder / text)


_MISPLACED_VARIABLE = (
    "only a secret can be a ${…} variable, so that a config means the same on every machine; write the value itself"
)


def _check_section(settings_class: type[M], raw: Mapping[str, Any], source: Source, prefix: KeyPath) -> M:
    """Check a section with its owner's class."""
    settings = validate(settings_class, raw, source, prefix)
    problems = [
        Problem((*prefix, *path), _MISPLACED_VARIABLE)
        for path, text in _texts(raw, ())
        if VARIABLE.search(text) and not isinstance(_at(settings, path), Secret)
    ]
    if problems:
        raise config_error(problems, source)
    return settings


def _check(
    values: dict[str, Any], source: Source, flags: Mapping[str, Any], overrides: Sequence[str], folder: Path
) -> RunConfig:
    options: dict[KeyPath, str] = {}
    for key, given in flags.items():
        path: KeyPath = tuple(key.split("."))
        flag = given if isinstance(given, Flag) else Flag("", given)
        if flag.value is not None:
            _put(values, path, flag.value, flag.option or key)
            options |= {path: flag.option} if flag.option else {}
    for override in overrides:
        path, value = _parse_override(override)
        _put(values, path, value, f"{SET} {override.partition('=')[0]}")
        options = {path: SET, **{given: option for given, option in options.items() if given != path}}
    source = Source(source.file, source.lines, options)
    problems = [
        Problem(path, _MISPLACED_VARIABLE)
        for path, text in _texts({key: one for key, one in values.items() if key not in OWNED}, ())
        # A system prompt is free text, and may contain ${…}.
        if (VARIABLE.fullmatch(text) if path == ("data", "system") else VARIABLE.search(text))
    ]
    if problems:
        raise config_error(problems, source)
    config = validate(RunConfig, values, source)
    return _resolve_paths(config, source, folder).with_source(source)


def _parse_override(text: str) -> tuple[KeyPath, Any]:
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set {key}: it must be KEY=VALUE.", remedy="Write, for example: --set train.epochs=3")
    if path[0] not in OWNED:
        for end in range(1, len(path) + 1):
            names = fields_at(RunConfig, path[: end - 1])
            if names and path[end - 1] not in names:
                meant = nearest(path[end - 1], names)
                hint = (
                    f"did you mean {format_path((*path[: end - 1], meant))!r}?"
                    if meant
                    else f"the keys here are {', '.join(names)}"
                )
                raise ConfigError(f"--set {format_path(path)}: unknown key; {hint}", key=format_path(path))
    elif path[0] == "backends" and len(path) < 3:
        raise ConfigError(
            f"--set {format_path(path)}: name a backend and its setting, as in backends.torch.learning_rate=1e-4"
        )
    return path, parse_value(value, f"--set {format_path(path)}")


def _put(values: dict[str, Any], path: KeyPath, value: Any, label: str) -> None:
    section = values
    for part in path[:-1]:
        inner = section.get(str(part))
        if inner is None:
            inner = section[str(part)] = {}
        elif not isinstance(inner, dict):
            raise ConfigError(f"{label}: {part!r} holds a value, not keys.", key=format_path(path))
        section = inner
    section[str(path[-1])] = value


def _resolve_paths(config: RunConfig, source: Source, folder: Path) -> RunConfig:
    def resolve(text: str, key: KeyPath) -> str:
        return resolve_path(text, Path.cwd() if key in source.options else folder)

    files: dict[str, Any] = {}
    for key in _DATA_FILES:
        value = getattr(config.data, key)
        if isinstance(value, str):
            files[key] = resolve(value, ("data", key))
    backend, colon, name = config.model.partition(":")
    model = f"{backend}:{resolve(name, ('model',))}" if colon and name.startswith(".") else config.model
    changed: dict[str, Any] = {"model": model, "data": config.data.model_copy(update=files)}
    if config.compare.record is not None:
        record = resolve(config.compare.record, ("compare", "record"))
        changed["compare"] = config.compare.model_copy(update={"record": record})
    return config.model_copy(update=changed)


def _texts(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _texts(one, (*path, key))
    elif isinstance(value, Sequence):
        for index, one in enumerate(value):
            yield from _texts(one, (*path, index))


def _at(settings: Any, path: KeyPath) -> Any:
    for part in path:
        if isinstance(settings, BaseModel):
            settings = getattr(settings, str(part), None)
        elif isinstance(settings, Mapping):
            settings = settings.get(part)
        elif isinstance(settings, Sequence) and isinstance(part, int) and part < len(settings):
            settings = settings[part]
        else:
            return None
    return settings


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_secrets(one) for key, one in value.items() if not _is_secret(one)}
    if isinstance(value, list | tuple):
        return [_without_secrets(one) for one in value]
    return value


def _is_secret(value: object) -> bool:
    return isinstance(value, Secret) or (isinstance(value, str) and VARIABLE.fullmatch(value) is not None)
