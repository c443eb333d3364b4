"""Limits of a process that reads an uploaded file: time, memory and expanded bytes. It ends when its server ends."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tuneport_server.limits import ResourceLimits

_LOOK_SECONDS = 0.5
_CPU_GRACE_SECONDS = 5
TRY_AGAIN = 75
"""Exit status of a check that failed for a reason that may pass, such as a full disk."""


class Bounds(NamedTuple):
    """What a check may use. Sizes are in bytes."""

    expanded: int
    rows: int
    seconds: int
    memory: int


def bounds_of(limits: ResourceLimits) -> Bounds:
    """Return the bounds that the server's limits set."""
    return Bounds(limits.expanded_bytes, limits.file_rows, limits.check_seconds, limits.check_memory)


def limit_process(bounds: Bounds) -> Callable[[], None]:
    """Let the system limit this process to the memory that it has now plus `memory`, and to `seconds` of processor
    time. Returns a function that lifts the limits, for a process that has finished its checks: programs that it starts
    would inherit them.
    """
    mapped = 0
    if sys.platform == "linux":
        mapped = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    lifts = [
        _limit(resource.RLIMIT_AS, mapped + bounds.memory),
        _limit(resource.RLIMIT_CPU, int(time.process_time()) + bounds.seconds + _CPU_GRACE_SECONDS),
        _limit(resource.RLIMIT_CORE, 0),
    ]

    def lift() -> None:
        for one in lifts:
            one()

    return lift


def _limit(what: int, most: int) -> Callable[[], None]:
    soft, hard = resource.getrlimit(what)
    for known in (soft, hard):
        most = most if known == resource.RLIM_INFINITY else min(most, known)
    resource.setrlimit(what, (most, hard))
    return partial(resource.setrlimit, what, (soft, hard))


def end_with(parent: int) -> None:
    """End this process soon after the process `parent`, its server, ends for whatever reason."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)
