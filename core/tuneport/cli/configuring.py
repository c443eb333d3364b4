"""The config that a command line describes: a file with options on top, or a data file with options alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.config import Flag, config_from_flags, load_config
from tuneport.dataset import missing_file_error
from tuneport.errors import RefError, UsageError
from tuneport.files import open_regular
from tuneport.homefolder import local_path
from tuneport.workflow import find_ref, open_backend
from tuneport.workflow.naming import with_base

if TYPE_CHECKING:
    from tuneport.config import RunConfig

_LARGEST_CONFIG = 2**20


@dataclass(frozen=True, slots=True)
class Options:
    """The values of a command's options; None where an option was not given."""

    model: str | None
    method: str | None
    epochs: str | None
    learning_rate: str | None
    seed: int | None
    holdout: str | None
    validation: str | None
    suffix: str | None = None

    def flags(self) -> dict[str, Any]:
        """The same by the keys of a config. The key of the learning rate depends on the backend, so it is left out."""
        return {
            "model": Flag("--model", None if self.model is None else _find_model(self.model)),
            "train.method": Flag("--method", self.method),
            "train.epochs": Flag("--epochs", self.epochs),
            "train.seed": Flag("--seed", self.seed),
            "train.suffix": Flag("--suffix", self.suffix),
            "data.holdout": Flag("--holdout", self.holdout),
            "data.validation": Flag("--validation", self.validation),
        }


def read_config(command: str, source: str, options: Options, overrides: Sequence[str] | None) -> RunConfig:
    """The config for a command. `command` is its name for messages, `source` a config file or a data file."""
    flags = options.flags()
    is_config = _is_config(source)
    if not is_config and options.model is None:
        if source != "-" and not local_path(source).exists():
            raise missing_file_error(source)
        raise UsageError(
            f"{source} is a data file, so you must name a base model.",
            remedy=f"Write: tuneport {command} {source} --model torch:smollm2-135m. Or first: tuneport init {source}",
        )
    if not is_config:
        flags["data.train"] = source
        if options.holdout is None:
            flags["data.holdout"] = 0.1

    def read() -> RunConfig:
        if is_config:
            return with_base(load_config(source, overrides or (), flags))
        return with_base(config_from_flags(flags, overrides or ()))

    if options.learning_rate is not None:
        flags[_learning_rate_key(read().ref.backend)] = Flag("--learning-rate", parse_number(options.learning_rate))
    return read()


def parse_number(text: str) -> float | str:
    """The number in an option's text. Other text is returned as it is, for the config's own check to refuse."""
    try:
        return float(text)
    except ValueError:
        return text


def _find_model(text: str) -> str:
    try:
        return str(find_ref(text))
    except RefError as error:
        raise RefError(f"--model: {error.message}", remedy=error.remedy) from error


def _learning_rate_key(backend: str) -> str:
    """The config key of a backend's learning rate. Raises UsageError if it takes none, or only a multiplier."""
    fields = open_backend(backend).settings_class.model_fields
    if "learning_rate" in fields:
        return f"backends.{backend}.learning_rate"
    remedy = "Leave out --learning-rate."
    if "learning_rate_multiplier" in fields:
        remedy = f"Scale the rate that the service chooses: --set backends.{backend}.learning_rate_multiplier=2"
    raise UsageError(f"The backend {backend!r} does not take a learning rate.", remedy=remedy)


def _is_config(source: str) -> bool:
    """Whether a file is a config: YAML and TOML always are, and JSON if it is an object with a model."""
    path = Path(source)
    if path.suffix.lower() != ".json":
        return path.suffix.lower() in (".yaml", ".yml", ".toml")
    try:
        with open_regular(path) as file:
            found = json.loads(file.read(_LARGEST_CONFIG))
    except OSError as error:
        raise UsageError(
            f"{source} cannot be read: {error.strerror}.", remedy="Check the name and the permissions."
        ) from error
    except (ValueError, RecursionError):
        return False  # too long or too deeply nested for a config, so it is data, or neither
    return isinstance(found, dict) and isinstance(found.get("model"), str)
