"""Commands about tuneport itself: plugins, doctor, schema, prune, demo."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def plugins(json: Json = False) -> int:
    """List the plugins: version, API number, where each came from, and ready, needs or BROKEN and why."""
    from tuneport.cli import show
    from tuneport.plugins import load

    infos = load().infos()
    if json:
        show.print_json({"plugins": [info.to_dict() for info in infos]})
    else:
        show.plugins(infos)
    return 0


def doctor(json: Json = False) -> int:
    """Check this machine: Python, home and ledger, disk, plugins, backends. Exit code 1 if something is wrong."""
    from tuneport.cli import show
    from tuneport.workflow import examine

    findings = examine()
    if json:
        show.print_json({"findings": [finding.to_dict() for finding in findings]})
    else:
        show.findings(findings)
    return 0 if all(finding.ok for finding in findings) else 1


def schema() -> int:
    """Print the JSON Schema of a config file, with the sections of all backends that are installed."""
    from tuneport.cli import show
    from tuneport.config import json_schema
    from tuneport.plugins import load

    show.print_json(
        json_schema({name: backend.config_class for name, backend in load().backends().items()}), version=None
    )
    return 0


def prune(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> int:
    """Free space: caches, spooled data, and the checkpoints of jobs that are over. Models and reports stay."""
    from tuneport.cli import show
    from tuneport.workflow import prune as free

    found = free(dry_run=True)
    if not json:
        show.prunable(found)
    if not found:
        return 0
    if not yes:
        typer.confirm("Remove them?", abort=True, err=True)
    done = free()
    if json:
        show.print_json({"removed": [item.to_dict() for item in done]})
    else:
        typer.echo(f"freed {show.size(sum(item.bytes for item in done))}")
    return 0


COMMANDS = (plugins, doctor, schema, prune)
