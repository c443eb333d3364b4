"""What there is to train on, found out without importing torch."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

Pool = Literal["cpu", "cuda", "mps"]

_LIMITS = {  # by version of control groups: the files that say how much may be taken, and how much is
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    2: ("memory.max", "memory.current"),
}


@dataclass(frozen=True, slots=True)
class Device:
    """A device by torch's name ("cuda:0"), what it is called, and its memory in bytes."""

    name: str
    model: str
    memory: int


def pool(setting: str) -> Pool:
    """Which kind of device the setting `device` comes to on this machine."""
    if setting in ("cpu", "cuda", "mps"):
        return setting  # type: ignore[return-value]  # the line above says so
    if _torch_has_cuda() and gpus():
        return "cuda"
    return "mps" if sys.platform == "darwin" and platform.machine() == "arm64" else "cpu"


def devices(kind: Pool) -> list[Device]:
    """The devices of a kind; the CPU and an Apple GPU are one each."""
    if kind == "cuda":
        return gpus()
    import psutil

    memory = psutil.virtual_memory().total
    return [Device("cpu", f"CPU, {threads()} threads", memory) if kind == "cpu" else Device("mps", "Apple GPU", memory)]


def threads() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes of main memory that this process can still take: what is free on the machine, or in its control group (a
    container's limit) where that is less.
    """
    import psutil

    return min([psutil.virtual_memory().available, *free_in_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def free_in_groups(listing: Path, mounted: Path) -> list[int]:
    """What is left in the control groups, of either version, that limit the process whose `listing` it is; file pages
    that can be dropped count as free.
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


@cache
def gpus() -> list[Device]:
    """The NVIDIA GPUs that torch will see, as their driver's library lists them; empty where there is no driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return []
    found = _listed_by_driver()
    if visible is None:
        return found
    chosen = [part.strip() for part in visible.split(",")]
    picked = [found[int(part)] if part.isdigit() and int(part) < len(found) else found[0] for part in chosen if found]
    return [Device(f"cuda:{index}", device.model, device.memory) for index, device in enumerate(picked)]


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def _listed_by_driver() -> list[Device]:
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


@cache
def _torch_has_cuda() -> bool:
    """Whether the installed torch is built for CUDA, as its version file says."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        text = Path(spec.origin).with_name("version.py").read_text("utf-8")
    except OSError:
        return False
    return re.search(r"^cuda\s*(:[^=]+)?=\s*['\"]", text, re.MULTILINE) is not None
