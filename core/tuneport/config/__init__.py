"""The config of a run: read from a file or from flags, checked completely, saved as it was given."""

from __future__ import annotations

from tuneport.config.load import Flag, backend_settings, config_from_flags, identity, load_config, load_section
from tuneport.config.models import RunConfig
from tuneport.config.sections import BudgetConfig, CompareConfig, DataConfig, TrainConfig
from tuneport.config.source import Source
from tuneport.config.write import commented_yaml, json_schema

__all__ = [
    "BudgetConfig",
    "CompareConfig",
    "DataConfig",
    "Flag",
    "RunConfig",
    "Source",
    "TrainConfig",
    "backend_settings",
    "commented_yaml",
    "config_from_flags",
    "identity",
    "json_schema",
    "load_config",
    "load_section",
]
