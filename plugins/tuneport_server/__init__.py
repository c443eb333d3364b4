"""Serve the OpenAI fine-tuning wire from this machine, with any tuneport backend: `tuneport serve`."""

from __future__ import annotations

from typing import Any

from tuneport.plugin import hookimpl

TUNEPORT_API = 1

__all__ = ["TUNEPORT_API", "tuneport_commands"]


@hookimpl
def tuneport_commands(app: Any) -> None:
    """Add `serve` and `access`."""
    from tuneport_server.commands import access, serve

    app.command("serve")(serve)
    app.add_typer(access, name="access")
