"""Reading YAML, TOML and JSON into plain values, remembering the line of every key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Source:
    """Where a config was read: the file as the user named it, and the line (from 1) of each key by its path.

    Two sources are always equal: where something was read is no part of what it says.
    """

    file: str | None = field(default=None, compare=False)
    lines: Mapping[Path_, int] = field(default_factory=dict, compare=False)
