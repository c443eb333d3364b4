"""The devices to train on, found without importing any library."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tuneport.doors import LOCAL, public

_LIMITS = {  # by version of control groups: the files with the limit and with what is used
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    2: ("memory.max", "memory.current"),
}


@public(LOCAL)
@dataclass(frozen=True, slots=True)
class Device:
    """A device: its name in the training library ("cpu", "cuda:0"), its model, and its memory in bytes."""

    name: str
    model: str
    memory: int


@public(LOCAL)
@dataclass(frozen=True, slots=True)
class DevicePool:
    """The devices that a job may use, all of one kind: jobs that want the same kind wait for each other.

    `per_device` jobs train on one device at the same time. An empty pool means that this machine has no such device.
    """

    kind: str
    devices: Sequence[Device]
    per_device: int = 1


@public(LOCAL)
def cpu() -> Device:
    """The processor of this machine as one device."""
    import psutil

    return Device("cpu", f"CPU, {count_threads()} threads", psutil.virtual_memory().total)


@public(LOCAL)
def count_threads() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@public(LOCAL)
def free_memory() -> int:
    """Bytes of main memory that this process can still take: what is free on the machine, or in its control group (a
    container's limit) where that is less.
    """
    import psutil

    return min([psutil.virtual_memory().available, *free_in_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def free_in_groups(listing: Path, mounted: Path) -> list[int]:
    """The free bytes of each control group, of either version, that limits the process described by `listing`; file
    pages that can be dropped count as free.
    """
    try:
        lines = listing.read_text("utf-8").splitlines()
    except OSError:  # not Linux
        return []
    left = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = mounted / "memory" if controllers else mounted
        limit, used = _LIMITS[1 if controllers else 2]
        for group in {root, root / path.lstrip("/")}:  # in a container, its own group may look like the root
            try:
                most, now = int((group / limit).read_text("ascii")), int((group / used).read_text("ascii"))
                facts = dict(fact.split() for fact in (group / "memory.stat").read_text("ascii").splitlines())
            except (OSError, ValueError):  # no such group, or "max"
                continue
            left.append(max(0, most - now + int(facts.get("inactive_file", 0))))
    return left


@public(LOCAL)
@cache
def list_gpus() -> list[Device]:
    """The NVIDIA GPUs that CUDA_VISIBLE_DEVICES allows, as the driver's library lists them; empty without a driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return []
    found = _read_driver()
    if visible is None:
        return found
    chosen = [part.strip() for part in visible.split(",")]
    picked = [found[int(part)] if part.isdigit() and int(part) < len(found) else found[0] for part in chosen if found]
    return [Device(f"cuda:{index}", device.model, device.memory) for index, device in enumerate(picked)]


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def _read_driver() -> list[Device]:
    """See the NVML reference: nvmlDeviceGetHandleByIndex_v2, nvmlDeviceGetName, nvmlDeviceGetMemoryInfo."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    if library.nvmlInit_v2() != 0:
        return []
    try:
        count = ctypes.c_uint()
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        listed = []
        for index in range(count.value):
            handle, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(96), _Memory()
            if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
                continue
            library.nvmlDeviceGetName(handle, name, 96)
            library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
            listed.append(Device(f"cuda:{index}", name.value.decode("utf-8", "replace"), memory.total))
        return listed
    finally:
        library.nvmlShutdown()
