"""The identity of a process: its pid alone is reused, so the time of its start and of the boot belong to it."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

SILENT_AFTER = 30.0
"""Seconds without a heartbeat after which a process that cannot be looked up counts as dead."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A process: its pid, when it started (on Linux in clock ticks after boot, which do not change with the clock), the
    boot and the pid namespace that the pid belongs to, and its own process group, if it leads one.
    """

    pid: int
    started: float
    boot: str
    namespace: str
    group: int | None = None

    @classmethod
    def of(cls, pid: int, *, leads_group: bool = False) -> Self:
        """The identity of a running process; with `leads_group` its group contains only it and its children."""
        return cls(pid, _start_time(pid) or 0.0, _boot(), _namespace(), pid if leads_group else None)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """The identity that `to_dict` wrote."""
        return cls(raw["pid"], raw["started"], raw["boot"], raw["namespace"], raw["group"])

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    def alive(self, last_beat: float | None = None) -> bool:
        """Whether the process is running. In another pid namespace (another container) the time of its last heartbeat,
        on this boot's monotonic clock, decides.
        """
        if self.boot != _boot():
            return False
        if self.namespace == _namespace():
            return _start_time(self.pid) == self.started
        return last_beat is not None and time.monotonic() - last_beat < SILENT_AFTER

    @property
    def is_from_earlier_boot(self) -> bool:
        """Whether the machine was restarted since."""
        return self.boot != _boot()

    def kill_group(self) -> None:
        """Kill the process and its group. Does nothing if the pid now belongs to another process."""
        if self.group is None or self.boot != _boot() or self.namespace != _namespace():
            return
        if _start_time(self.pid) not in (None, self.started):
            return  # a group's number is not reused while it has members, so this group is gone
        try:
            os.killpg(self.group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def out_of_memory_kills() -> int | None:
    """How many processes the kernel has killed for memory since boot; None where it does not count them."""
    try:
        text = Path("/proc/vmstat").read_text("ascii")
    except OSError:
        return None
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), None)


def _start_time(pid: int) -> float | None:
    """When a process started, or None if it has ended."""
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(")")[2].split()  # the name before it may contain spaces and brackets
        return None if fields[0] in "ZX" else float(fields[19])
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        import psutil

        return f"{psutil.boot_time():.0f}"


@cache
def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
