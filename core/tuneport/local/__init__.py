"""For authors of backends that train on this machine: the job folder, its one owner, the detached worker, events,
checkpoints and a queue for the devices. Write a `LocalBackend`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneport.doors import lazy

if TYPE_CHECKING:
    from tuneport.local.backend import LocalBackend
    from tuneport.local.checkpoints import Checkpoints, Saved
    from tuneport.local.control import Stop
    from tuneport.local.devices import Device, DevicePool, count_threads, cpu, free_memory, list_gpus
    from tuneport.local.failures import may_pass
    from tuneport.local.folder import Folder
    from tuneport.local.job import LocalJob
    from tuneport.local.trainer import Trainer
    from tuneport.local.work import Stopped, Work

_EXPORTS = {
    "local.backend": "LocalBackend",
    "local.checkpoints": "Checkpoints Saved",
    "local.control": "Stop",
    "local.devices": "Device DevicePool count_threads cpu free_memory list_gpus",
    "local.failures": "may_pass",
    "local.folder": "Folder",
    "local.job": "LocalJob",
    "local.trainer": "Trainer",
    "local.work": "Stopped Work",
}

__all__ = [
    "Checkpoints",
    "Device",
    "DevicePool",
    "Folder",
    "LocalBackend",
    "LocalJob",
    "Saved",
    "Stop",
    "Stopped",
    "Trainer",
    "Work",
    "count_threads",
    "cpu",
    "free_memory",
    "list_gpus",
    "may_pass",
]

if not TYPE_CHECKING:  # a type checker that saw it would accept every name
    __getattr__ = lazy(__name__, _EXPORTS)


def __dir__() -> list[str]:
    return sorted(__all__)
