"""From a file or from flags to a checked config, and from its raw sections to a backend's own settings."""

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
from tuneport.config.problems import Problem, config_error, fields_at, nearest, unknown_key, validated
from tuneport.config.source import SET, KeyPath, Source, dotted, parse_value, read
from tuneport.contract.settings import VARIABLE, Secret
from tuneport.doors import AUTHORS, public
from tuneport.errors import ConfigError
from tuneport.homefolder import local_path

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Flag:
    """A value from the command line, and the option that gave it, such as `--epochs`: what messages call it."""

    option: str
    value: Any


_DATA_FILES = ("train", "validation", "holdout")


def load_config(path: str | Path, overrides: Sequence[str] = (), flags: Mapping[str, Any] | None = None) -> RunConfig:
    """The config of a YAML, TOML or JSON file; over it flags as in `config_from_flags`, over those overrides such as
    `backends.torch.learning_rate=1e-4`.

    Values of overrides are read as YAML. Relative paths start at the file's folder, those of flags and overrides at the
    current one. Raises ConfigError that lists every problem with file, line and key; the sections under `backends` are
    checked by `backend_settings`.
    """
    file = local_path(path)
    values, source = read(file, str(path))
    return _checked(values, source, flags or {}, overrides, file.absolute().parent)


def config_from_flags(flags: Mapping[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """The same config without a file: `{"model": "torch:…", "data.train": "rows.csv", "train.epochs": 3}`.

    What is None was not given; messages name an option as it was typed where the value is a `Flag`. Relative paths
    start at the current folder. Raises ConfigError.
    """
    return _checked({}, Source(), flags, overrides, Path.cwd())


def backend_settings(config: RunConfig, name: str, settings_class: type[M]) -> M:
    """The section of one backend, checked by that backend's own class; its defaults where the config has none.

    Raises ConfigError like `load_config`.
    """
    return _owned(settings_class, config.section(name), config.source, ("backends", name))


@public(AUTHORS)
def load_section(path: str | Path, name: str, settings_class: type[M]) -> M:
    """A section that a plugin owns, such as `serve`, checked by that plugin's own class. The file may hold a run too,
    or nothing else. Raises ConfigError like `load_config`.
    """
    values, source = read(local_path(path), str(path))
    problems = [
        Problem((key,), unknown_key(RunConfig, values, (key,))) for key in values if key not in RunConfig.model_fields
    ]
    raw = values.get(name, {})
    if name not in values and not problems:
        raise ConfigError(
            f"{path}: it has no section {name!r}.",
            remedy=f"Write `{name}:` in it with keys below, or name the file that has it.",
            file=str(path),
        )
    if not isinstance(raw, dict | None):
        problems.append(Problem((name,), "should be a section with keys of its own"))
    if problems:
        raise config_error(problems, source)
    return _owned(settings_class, raw or {}, source, (name,))


def identity(config: RunConfig, settings: BaseModel | None = None, fingerprints: Sequence[str] = ()) -> str:
    """SHA-256, as hex, of everything that affects what training makes: equal for runs that would make the same model.

    That is the model, how the data is read and split, `train`, the chosen backend's section and the fingerprints of the
    data; not where the data lies, nor secrets, `budget` and `compare`. Give the backend's checked `settings` where they
    are known: a default that is written out then makes no difference. Defaults themselves are left out, so that a
    setting which a later version adds does not make yesterday's paid run a new one.
    """
    data = config.data.model_dump(mode="json", exclude={"train"}, exclude_defaults=True)
    # Which rows a file holds is told by its fingerprint; a holdout file has no part in training at all.
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
    """A relative path made absolute from `folder`; `-`, `~/…`, absolute paths and addresses (`s3://…`) as they are."""
    if text == "-" or text.startswith(("/", "~")) or re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        return text
    return os.path.normpath(folder / text)


_MISPLACED_VARIABLE = (
    "a variable in ${…} can stand for a whole secret only, so that a config means the same on every machine; "
    "write the value itself"
)


def _owned(settings_class: type[M], raw: Mapping[str, Any], source: Source, prefix: KeyPath) -> M:
    """A section by its owner's class."""
    settings = validated(settings_class, raw, source, prefix)
    problems = [
        Problem((*prefix, *path), _MISPLACED_VARIABLE)
        for path, text in _texts(raw, ())
        if VARIABLE.search(text) and not isinstance(_at(settings, path), Secret)
    ]
    if problems:
        raise config_error(problems, source)
    return settings


def _checked(
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
        path, value = _override(override)
        _put(values, path, value, f"{SET} {override.partition('=')[0]}")
        options = {path: SET, **{given: option for given, option in options.items() if given != path}}
    source = Source(source.file, source.lines, options)
    problems = [
        Problem(path, _MISPLACED_VARIABLE)
        for path, text in _texts({key: one for key, one in values.items() if key not in OWNED}, ())
        # A system prompt is free text, and may speak of ${…}.
        if (VARIABLE.fullmatch(text) if path == ("data", "system") else VARIABLE.search(text))
    ]
    if problems:
        raise config_error(problems, source)
    config = validated(RunConfig, values, source)
    return _with_paths_resolved(config, source, folder).with_source(source)


def _override(text: str) -> tuple[KeyPath, Any]:
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(
            f"--set {key}: it is not of the form KEY=VALUE.", remedy="Write for example --set train.epochs=3"
        )
    if path[0] not in OWNED:
        for end in range(1, len(path) + 1):
            names = fields_at(RunConfig, path[: end - 1])
            if names and path[end - 1] not in names:
                meant = nearest(path[end - 1], names)
                hint = (
                    f"did you mean {dotted((*path[: end - 1], meant))!r}?"
                    if meant
                    else f"the keys here are {', '.join(names)}"
                )
                raise ConfigError(f"--set {dotted(path)}: unknown key; {hint}", key=dotted(path))
    elif path[0] == "backends" and len(path) < 3:
        raise ConfigError(
            f"--set {dotted(path)}: name a backend and its setting, as in backends.torch.learning_rate=1e-4"
        )
    return path, parse_value(value, f"--set {dotted(path)}")


def _put(values: dict[str, Any], path: KeyPath, value: Any, label: str) -> None:
    section = values
    for part in path[:-1]:
        inner = section.get(str(part))
        if inner is None:
            inner = section[str(part)] = {}
        elif not isinstance(inner, dict):
            raise ConfigError(f"{label}: {part!r} holds a value, not keys.", key=dotted(path))
        section = inner
    section[str(path[-1])] = value


def _with_paths_resolved(config: RunConfig, source: Source, folder: Path) -> RunConfig:
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
