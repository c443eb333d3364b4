"""Train at Fireworks: the `fireworks:` backend of tuneport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneport.plugin import hookimpl

if TYPE_CHECKING:
    from tuneport.plugin import Backend
    from tuneport_fireworks.service import Fireworks
    from tuneport_fireworks.settings import FireworksSettings

TUNEPORT_API = 1

__all__ = ["TUNEPORT_API", "Fireworks", "FireworksSettings", "tuneport_backends"]

_ROOMS = {"Fireworks": "service", "FireworksSettings": "settings"}


@hookimpl
def tuneport_backends() -> list[Backend]:
    """Announce the backend."""
    from tuneport.hosted import HostedBackend
    from tuneport_fireworks.service import Fireworks

    return [HostedBackend(Fireworks(), install="pip install 'tuneport[fireworks]'")]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'tuneport_fireworks' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"tuneport_fireworks.{_ROOMS[name]}"), name)
