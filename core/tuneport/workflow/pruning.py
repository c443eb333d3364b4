"""Frees disk space: removes caches, old spooled rows, and what finished jobs no longer need."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneport.doors import public
from tuneport.errors import NotFoundError, TuneportError
from tuneport.homefolder import home
from tuneport.ledger import Ledger
from tuneport.loader import load

_SPOOL_SECONDS = 24 * 3600
_log = logging.getLogger("tuneport")


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Prunable:
    """Something in home that is no longer needed, and its size in bytes."""

    what: str
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {"what": self.what, "bytes": self.bytes}


@public()
def prune(*, dry_run: bool = False) -> list[Prunable]:
    """Remove (or, with `dry_run`, only find) caches, spooled rows older than a day, and what finished jobs no
    longer need, such as checkpoints. Models, reports and the ledger stay.

    A backend that fails is logged as a warning, and the rest is pruned.
    """
    return [*_prune_folders(dry_run), *_prune_jobs(dry_run)]


def _prune_folders(dry_run: bool) -> Iterator[Prunable]:
    cache = home("cache")
    for one in sorted(cache.iterdir()):
        if size := size_of(one):
            for inner in _inside(one) if not dry_run else ():
                _remove(inner)
            yield Prunable(what=f"cache {one.name} in {cache}", bytes=size)
    old = [one for one in home("spool").iterdir() if time.time() - one.lstat().st_mtime > _SPOOL_SECONDS]
    if old:
        size = sum(size_of(one) for one in old)
        for one in old if not dry_run else ():
            _remove(one)
        yield Prunable(what=f"{len(old)} spooled inputs older than a day", bytes=size)


def _prune_jobs(dry_run: bool) -> Iterator[Prunable]:
    with Ledger.open() as ledger:
        records = ledger.jobs()
    for record in records:
        try:
            job = load().backend(record.ref.backend).job(record.ref.name)
            freed = job.prune(dry_run=dry_run) if job.status.terminal else 0
        except NotFoundError:
            continue  # its plugin or what it kept is gone
        except (TuneportError, OSError) as error:
            _log.warning("%s was not pruned: %s", record.ref, error)
            continue
        if freed:
            yield Prunable(what=f"checkpoints of {record.ref}", bytes=freed)


def _inside(cache: Path) -> list[Path]:
    """What is in a cache. The cache's own folder stays, for a process that is about to write into it."""
    return list(cache.iterdir()) if cache.is_dir() and not cache.is_symlink() else [cache]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)  # another process may be at work in it
    else:
        path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.lstat().st_size
    total = 0
    for one in path.rglob("*"):
        with suppress(FileNotFoundError):  # another process has just removed it
            total += one.lstat().st_size if one.is_file() else 0
    return total
