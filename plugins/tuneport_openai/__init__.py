"""Train and ask over the OpenAI API: the `openai:` and `azure:` backends of tuneport, and one for each profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneport.plugin import hookimpl

if TYPE_CHECKING:
    from tuneport.plugin import Backend
    from tuneport_openai.backend import OpenAIBackend
    from tuneport_openai.config import OpenAISettings
    from tuneport_openai.job import HostedJob
    from tuneport_openai.model import HostedModel
    from tuneport_openai.start.rules import write_rows
    from tuneport_openai.wire.profiles import Profile

TUNEPORT_API = 1

__all__ = [
    "TUNEPORT_API",
    "HostedJob",
    "HostedModel",
    "OpenAIBackend",
    "OpenAISettings",
    "Profile",
    "tuneport_backends",
    "tuneport_commands",
    "write_rows",
]

_ROOMS = {
    "HostedJob": "job",
    "HostedModel": "model",
    "OpenAIBackend": "backend",
    "OpenAISettings": "config",
    "Profile": "wire.profiles",
    "write_rows": "start.rules",
}


@hookimpl
def tuneport_backends() -> list[Backend]:
    """Register one backend for each profile."""
    from tuneport_openai.backend import OpenAIBackend
    from tuneport_openai.wire.profiles import profiles

    return [OpenAIBackend(profile) for profile in profiles().values()]


@hookimpl
def tuneport_commands(app: Any) -> None:
    """Add `tuneport profiles` and `tuneport move`."""
    from tuneport_openai import commands
    from tuneport_openai.move import command

    commands.add_to(app)
    command.add_to(app)


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'tuneport_openai' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"tuneport_openai.{_ROOMS[name]}"), name)
