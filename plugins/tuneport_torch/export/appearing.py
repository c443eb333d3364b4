"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuneport.errors import UsageError
from tuneport.plugin import local_path, sync


@contextmanager
def appearing(path: Path, *, folder: bool = True) -> Iterator[Path]:
    """A new folder (or a file's place) that takes the name `path`, flushed to disk, when the block ends well, and
    vanishes when it does not: if its process is killed, when the next one comes to write the same.

    Raises UsageError when something is there already; an empty folder is nothing.
    """
    path = local_path(path).absolute()
    if path.is_file() or (path.is_dir() and (not folder or any(path.iterdir()))):
        raise UsageError(f"{path} already exists.", remedy="Name a new one, or remove the old one first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in _left_behind(path):
        shutil.rmtree(leftover, ignore_errors=True)
    place = path.with_name(f".tuneport-{uuid.uuid4().hex[:8]}-{path.name}")
    place.mkdir()
    held = os.open(place, os.O_RDONLY)
    made = place if folder else place / path.name
    try:
        _lock(held)
        yield made
        for one in [*made.iterdir(), made] if folder else [made]:
            if one.is_file():  # safetensors lets only its owner read what it writes
                one.chmod(place.stat().st_mode & 0o666)
            sync(one)
        made.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(place, ignore_errors=True)  # a folder that took its name is not there any more
        os.close(held)


def _left_behind(path: Path) -> Iterator[Path]:
    """What processes that were killed have begun to write as `path`; what another still writes is locked by it."""
    name = re.compile(rf"\.tuneport-[0-9a-f]{{8}}-{re.escape(path.name)}\Z")
    for found in path.parent.glob(f".tuneport-*-{glob.escape(path.name)}"):
        if not name.match(found.name) or not found.is_dir() or found.is_symlink():
            continue
        held = os.open(found, os.O_RDONLY)
        try:
            if _lock(held):
                yield found
        finally:
            os.close(held)


def _lock(held: int) -> bool:
    """Lock an open folder; False where another process holds it, or the file system has no locks."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A JSON file for people and programs."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
