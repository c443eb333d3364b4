"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuneport import UsageError
from tuneport_torch.jobs.folder import sync


@contextmanager
def appearing(path: Path, *, folder: bool = True) -> Iterator[Path]:
    """A new folder (or a file's place) that takes the name `path`, flushed to disk, when the block ends well, and
    vanishes when it does not. Raises UsageError when something is there already; an empty folder is nothing.
    """
    path = path.expanduser().absolute()
    if path.is_file() or (path.is_dir() and (not folder or any(path.iterdir()))):
        raise UsageError(f"{path} already exists.", remedy="Name a new one, or remove the old one first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    if folder:
        made.mkdir()
    try:
        yield made
        for one in [*made.iterdir(), made] if folder else [made]:
            sync(one)
        made.rename(path)
        sync(path.parent)
    except BaseException:
        if folder:
            shutil.rmtree(made, ignore_errors=True)
        else:
            made.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A JSON file for people and programs."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
