"""Commands about tuneport itself: plugins, doctor, schema, prune."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneport.terminal.outlet import say, say_json
from tuneport.terminal.tables import Json, Yes, confirm, print_table, working

if TYPE_CHECKING:
    from tuneport.loader import PluginInfo
    from tuneport.workflow import HealthCheck, Prunable


def plugins(json: Json = False) -> int:
    """List the plugins: ready, needs, off, or BROKEN, and why. Also each one's version, API number and origin."""
    from tuneport.loader import load

    infos = load().infos()
    if json:
        say_json({"plugins": [info.to_dict() for info in infos]})
    else:
        _show_plugins(infos)
    return 0


def doctor(json: Json = False) -> int:
    """Check this machine: Python, home, disk, plugins, backends. Exit code 1 if something is wrong."""
    from tuneport.workflow import doctor

    with working("Checking this machine"):
        findings = doctor()
    if json:
        say_json({"findings": [finding.to_dict() for finding in findings]})
    else:
        _show_findings(findings)
    return 0 if all(finding.ok for finding in findings) else 1


def schema() -> int:
    """Print the JSON Schema of a config file. It has the sections of all installed backends."""
    from tuneport.config import json_schema
    from tuneport.workflow import backends

    say_json(json_schema({name: backend.settings_class for name, backend in backends().items()}), version=None)
    return 0


def prune(
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Free disk space. Removes caches, spooled rows and checkpoints of finished jobs, and asks first. Keeps models and
    reports.
    """
    from tuneport.units import size
    from tuneport.workflow import prune as free

    with working("Looking for what can be removed"):
        found = free(dry_run=True)
    if not json:
        _show_prunable(found)
    if found and not confirm("Remove them?", yes=yes):
        return 1
    with working("Removing"):
        done = free() if found else []
    if json:
        say_json({"removed": [item.to_dict() for item in done]})
    elif done:
        say(f"freed {size(sum(item.bytes for item in done))}")
    return 0


def _show_plugins(infos: Sequence[PluginInfo]) -> None:
    looks = {"ready": ("ready", "green"), "broken": ("BROKEN", "red"), "off": ("off", ""), "needs": ("needs", "yellow")}
    rows = [
        (one.name, one.version, str(one.api or "?"), ", ".join(one.backends), looks[one.status], one.origin)
        for one in infos
    ]
    print_table(("plugin", "version", "API", "backends", "status", "from"), rows)
    for one in infos:
        if one.reason:
            say(f"{one.name}: {one.reason.rstrip('.')}. {one.remedy or ''}".rstrip())


def _show_findings(found: Sequence[HealthCheck]) -> None:
    for one in found:
        say(("ok " if one.ok else "BAD", "green" if one.ok else "red"), f" {one.what}: {one.detail}")
        if one.remedy:
            say(f"    → {one.remedy}")


def _show_prunable(found: Sequence[Prunable]) -> None:
    from tuneport.units import size

    if not found:
        say("There is nothing to remove.", err=True)
        return
    for one in found:
        say(f"{size(one.bytes):>10}  {one.what}")
    say(f"{size(sum(one.bytes for one in found)):>10}  in total")


COMMANDS = (plugins, doctor, schema, prune)
