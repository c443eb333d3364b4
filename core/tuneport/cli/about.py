"""Commands about tuneport itself: plugins, doctor, schema, prune, demo."""

from __future__ import annotations

from tuneport.terminal.outlet import say, say_json
from tuneport.terminal.tables import Json, Yes, working


def plugins(json: Json = False) -> int:
    """List the plugins: ready, needs, or BROKEN and why. Also each one's version, API number and origin."""
    from tuneport.cli import show
    from tuneport.loader import load

    infos = load().infos()
    if json:
        say_json({"plugins": [info.to_dict() for info in infos]})
    else:
        show.plugins(infos)
    return 0


def doctor(json: Json = False) -> int:
    """Check this machine: Python, home, disk, plugins, backends. Exit code 1 if something is wrong."""
    from tuneport.cli import show
    from tuneport.workflow import doctor

    with working("Looking at this machine"):
        findings = doctor()
    if json:
        say_json({"findings": [finding.to_dict() for finding in findings]})
    else:
        show.findings(findings)
    return 0 if all(finding.ok for finding in findings) else 1


def schema() -> int:
    """Print the JSON Schema of a config file. It has the sections of all backends that are installed."""
    from tuneport.config import json_schema
    from tuneport.loader import load

    say_json(json_schema({name: backend.settings_class for name, backend in load().backends().items()}), version=None)
    return 0


def prune(
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Free space: caches, spooled rows, checkpoints of finished jobs. Models and reports stay. Asks first."""
    from tuneport.cli import show
    from tuneport.terminal.tables import confirmed
    from tuneport.units import size
    from tuneport.workflow import prune as free

    with working("Looking for what can go"):
        found = free(dry_run=True)
    if not json:
        show.prunable(found)
    if found and not confirmed("Remove them?", yes=yes):
        return 1
    with working("Removing"):
        done = free() if found else []
    if json:
        say_json({"removed": [item.to_dict() for item in done]})
    elif done:
        say(f"freed {size(sum(item.bytes for item in done))}")
    return 0


COMMANDS = (plugins, doctor, schema, prune)
