"""Train on this machine with PyTorch: the `torch:` backend of tuneport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneport.plugin import hookimpl

if TYPE_CHECKING:
    from tuneport.plugin import Backend
    from tuneport_torch.backend import TorchBackend
    from tuneport_torch.config import TorchSettings
    from tuneport_torch.model import TorchModel

TUNEPORT_API = 1

__all__ = ["TUNEPORT_API", "TorchBackend", "TorchModel", "TorchSettings", "tuneport_backends"]

_ROOMS = {"TorchBackend": "backend", "TorchModel": "model", "TorchSettings": "config"}


@hookimpl
def tuneport_backends() -> list[Backend]:
    """Announce the backend."""
    from tuneport_torch.backend import TorchBackend

    return [TorchBackend()]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'tuneport_torch' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"tuneport_torch.{_ROOMS[name]}"), name)
