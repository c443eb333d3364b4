"""Checks this machine: Python, home, the disk, plugins and backends."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneport.doors import public
from tuneport.errors import TuneportError
from tuneport.homefolder import home
from tuneport.ledger import Ledger
from tuneport.loader import PluginInfo, alternatives, availabilities, load
from tuneport.workflow.pruning import size_of

if TYPE_CHECKING:
    from tuneport.contract.capabilities import Availability

_LOW_DISK = 5 * 2**30


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
        remedy = " ".join(filter(None, (f"{answer.closing.rstrip('.')}. Elsewhere: {others}.", remedy)))
    return HealthCheck(what=f"backend {name}", ok=True, detail=detail, remedy=remedy)


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
    if cached := size_of(home("cache")):
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
