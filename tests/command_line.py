"""Commands typed as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Cli = Callable[..., tuple[int, str, str]]
"""Takes a command's words; gives its exit code, standard output and standard error."""


def as_json(cli: Cli, *arguments: str | Path) -> dict[str, Any]:
    """What a command prints with --json; it must succeed."""
    code, out, err = cli(*arguments, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    assert found["version"] == 1
    return found
