"""Which plugins are installed, by their entry points and sources; nothing of them is imported."""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import Any

GROUP = "tuneport"
OURS = "tuneport"


@dataclass(slots=True)
class Found:
    """An installed plugin: whether it is `off` by TUNEPORT_PLUGINS, or why it is `broken`, with a remedy."""

    entry: EntryPoint
    distribution: Distribution
    api: int | None = None
    module: Any = None
    backends: list[str] = field(default_factory=list)
    off: bool = False
    broken: str = ""
    remedy: str | None = None

    @property
    def distribution_name(self) -> str:
        """As `pip` and TUNEPORT_PLUGINS name it."""
        return _name(self.distribution)

    @property
    def origin(self) -> str:
        """The folder that it is in."""
        spec_file = getattr(self.module, "__file__", None)
        return str(Path(spec_file).parent) if spec_file else str(self.distribution.locate_file(""))


def find_installed() -> Iterator[Found]:
    """Entry points, none imported: ours first, then by distribution name; the same distribution only once."""
    allowed = os.environ.get("TUNEPORT_PLUGINS")
    names = None if allowed is None else {_normal(name) for name in allowed.split(",") if name.strip()}
    seen: set[tuple[str, str]] = set()
    # Reading a distribution's metadata is slow, so only those whose entry points have our group are read.
    ours = [(_name(one), one) for one in distributions() if f"[{GROUP}]" in (one.read_text("entry_points.txt") or "")]
    for name, distribution in sorted(ours, key=lambda pair: (pair[0] != OURS, pair[0])):
        for entry in sorted(distribution.entry_points, key=lambda e: e.name):
            if entry.group != GROUP or (name, entry.name) in seen:
                continue
            seen.add((name, entry.name))
            off = names is not None and name != OURS and name not in names
            yield Found(entry, distribution, off=off)


def literal_api(module: str) -> int | None:
    """The literal `TUNEPORT_API = …` in a module's source, read without running it; None where there is no source."""
    source = _source(module)
    for node in ast.parse(source).body if source is not None else ():
        if (
            isinstance(node, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == "TUNEPORT_API" for t in node.targets)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, int)
        ):
            return node.value.value
    return None


def has_source(module: str) -> bool:
    """Whether the source of a module can be read without importing it."""
    return _source(module) is not None


def _source(module: str) -> bytes | None:
    """The source of a top-level module; None where there is none or the module is inside another."""
    spec = importlib.util.find_spec(module) if "." not in module else None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin).read_bytes()


def _name(distribution: Distribution) -> str:
    return _normal(distribution.metadata["Name"] or "")


def _normal(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")
