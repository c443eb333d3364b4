"""Looking after the machine: what is wrong, and what can be removed."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.doors import public
from tuneport.errors import NotFoundError, TuneportError
from tuneport.homefolder import home
from tuneport.ledger import Ledger
from tuneport.loader import PluginInfo, alternatives, availabilities, load

if TYPE_CHECKING:
    from tuneport.contract.capabilities import Availability

_SPOOL_SECONDS = 24 * 3600
_LOW_DISK = 5 * 2**30
_log = logging.getLogger("tuneport")


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """One thing that was checked: fine, or what is wrong with it and what to do."""

    what: str
    ok: bool
    detail: str
    remedy: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


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
def doctor() -> list[HealthCheck]:
    """Check Python, home, the ledger, the disk, and every plugin with its backends. Uses no network."""
    findings = [
        HealthCheck(
            what="python", ok=sys.version_info >= (3, 11), detail=f"{platform.python_version()} at {sys.executable}"
        ),
        *_home_findings(),
    ]
    plugins = load()
    backends = plugins.backends()
    answers = availabilities(backends.values())
    for info in plugins.infos(answers):
        findings.append(_plugin_finding(info))
        # The line of a plugin has already said that its only backend cannot be used.
        named = info.backends if info.status == "ready" or len(info.backends) > 1 else ()
        findings += [_backend_finding(name, answers[name]) for name in named if backends[name].listed]
    return findings


def _backend_finding(name: str, answer: Availability) -> HealthCheck:
    detail = ", ".join(_fact(key, value) for key, value in answer.details.items()) or "ready"
    if not answer.ready:
        detail = f"not set up: {answer.reason}"  # like a plugin that needs a package, this is the user's choice
    remedy = answer.remedy
    if answer.closing:
        others = ", ".join(alternatives(name))
        remedy = " ".join(filter(None, (remedy, f"{answer.closing.rstrip('.')}. Elsewhere: {others}.")))
    return HealthCheck(what=f"backend {name}", ok=True, detail=detail, remedy=remedy)


@public()
def prune(*, dry_run: bool = False) -> list[Prunable]:
    """Remove (or, with `dry_run`, only find) caches, spooled rows older than a day, and what jobs that are over no
    longer need, such as checkpoints. Models, reports and the ledger stay.

    A backend that fails is logged as a warning, and the rest is pruned.
    """
    return [*_pruned_folders(dry_run), *_pruned_jobs(dry_run)]


def _home_findings() -> Iterator[HealthCheck]:
    try:
        root = home()
        with Ledger.open() as ledger:
            known = len(ledger.jobs())
    except TuneportError as error:
        yield HealthCheck(what="home", ok=False, detail=error.message, remedy=error.remedy)
        return
    asked = " (TUNEPORT_HOME)" if os.environ.get("TUNEPORT_HOME") else ""
    yield HealthCheck(
        what="home", ok=True, detail=f"{root}{asked}, {known} {'job' if known == 1 else 'jobs'} in the ledger"
    )
    if cached := _size(home("cache")):
        yield HealthCheck(
            what="caches", ok=True, detail=f"{cached / 2**30:.1f} GiB in {home('cache')}; tuneport prune removes them"
        )
    free = shutil.disk_usage(root).free
    yield HealthCheck(
        what="disk",
        ok=free > _LOW_DISK,
        detail=f"{free / 2**30:.0f} GiB free for home",
        remedy=None if free > _LOW_DISK else "Free some space: tuneport prune, or set TUNEPORT_HOME to another disk.",
    )


def _plugin_finding(info: PluginInfo) -> HealthCheck:
    detail = f"{info.distribution} {info.version}"
    if info.status == "ready":
        return HealthCheck(what=f"plugin {info.name}", ok=True, detail=detail)
    if info.status == "needs" and len(info.backends) > 1:
        return HealthCheck(what=f"plugin {info.name}", ok=True, detail=f"{detail} needs: no backend is set up")
    # A plugin that is switched off or needs a package is the user's choice, a broken one is not.
    return HealthCheck(
        what=f"plugin {info.name}",
        ok=info.status != "broken",
        detail=f"{detail} {info.status}: {info.reason}",
        remedy=info.remedy,
    )


def _fact(name: str, value: object) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{name.removesuffix('_bytes')} {value / 2**30:.0f} GiB"
    return f"{name} {' and '.join(map(str, value)) if isinstance(value, list | tuple) else value}"


def _pruned_folders(dry_run: bool) -> Iterator[Prunable]:
    cache = home("cache")
    for one in sorted(cache.iterdir()):
        if size := _size(one):
            for inner in _inside(one) if not dry_run else ():
                _remove(inner)
            yield Prunable(what=f"cache {one.name} in {cache}", bytes=size)
    old = [one for one in home("spool").iterdir() if time.time() - one.lstat().st_mtime > _SPOOL_SECONDS]
    if old:
        size = sum(_size(one) for one in old)
        for one in old if not dry_run else ():
            _remove(one)
        yield Prunable(what=f"{len(old)} spooled inputs older than a day", bytes=size)


def _pruned_jobs(dry_run: bool) -> Iterator[Prunable]:
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


def _size(path: Path) -> int:
    if path.is_file():
        return path.lstat().st_size
    total = 0
    for one in path.rglob("*"):
        with suppress(FileNotFoundError):  # another process has just removed it
            total += one.lstat().st_size if one.is_file() else 0
    return total
