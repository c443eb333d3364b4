"""Output files and folders that are complete or absent."""

from __future__ import annotations

import fcntl
import glob
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuneport.errors import UsageError
from tuneport.plugin import local_path, sync


@contextmanager
def atomic_output(path: Path, *, folder: bool = True) -> Iterator[Path]:
    """Yield a new folder (or a path for a file) that is flushed to disk and renamed to `path` when the block succeeds.

    If the block fails, it is deleted; if its process is killed, the next call for the same path deletes it. Raises
    UsageError if `path` exists, unless it is an empty folder.
    """
    path = local_path(path).absolute()
    if path.is_file() or (path.is_dir() and (not folder or any(path.iterdir()))):
        raise UsageError(f"{path} already exists.", remedy="Choose another path, or remove the existing one first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in _find_abandoned(path):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch = path.with_name(f".tuneport-{uuid.uuid4().hex[:8]}-{path.name}")
    scratch.mkdir()
    handle = os.open(scratch, os.O_RDONLY)
    draft = scratch if folder else scratch / path.name
    try:
        _lock(handle)
        yield draft
        for one in [*draft.iterdir(), draft] if folder else [draft]:
            if one.is_file():  # safetensors makes its files readable only for their owner
                one.chmod(scratch.stat().st_mode & 0o666)
            sync(one)
        draft.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # a renamed folder does not exist there anymore
        os.close(handle)


def _find_abandoned(path: Path) -> Iterator[Path]:
    """Drafts of `path` from killed processes. A draft that a process still writes is locked by it."""
    name = re.compile(rf"\.tuneport-[0-9a-f]{{8}}-{re.escape(path.name)}\Z")
    for found in path.parent.glob(f".tuneport-*-{glob.escape(path.name)}"):
        if not name.match(found.name) or not found.is_dir() or found.is_symlink():
            continue
        handle = os.open(found, os.O_RDONLY)
        try:
            if _lock(handle):
                yield found
        finally:
            os.close(handle)


def _lock(handle: int) -> bool:
    """Lock an open folder. False if another process holds the lock or the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
