"""Why a worker ended without reporting it, as far as its files show."""

from __future__ import annotations

import re
import shutil
from typing import Any

from tuneport.contract.events import Status
from tuneport.local.disk import full_disk_remedy
from tuneport.local.folder import Folder
from tuneport.local.owner import Holder
from tuneport.local.process import out_of_memory_kills
from tuneport.units import size

WAITS = "waiting"
"""The native status of a job in the queue whose worker has not started."""

_ERROR_LINE = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b")


def explain_absence(folder: Folder, before: Holder | None, less_memory: str) -> tuple[str, str]:
    """What happened to the last owner of a folder, and what to do. `less_memory` completes "or …" when memory was
    short.
    """
    resume = f"Run: tuneport resume {folder.ref}"
    if before is None or before.identity is None:
        return "It never started: the starting process was interrupted.", resume
    now = folder.status()
    waited = now is not None and now.status is Status.QUEUED and now.native == WAITS
    if before.identity.is_from_earlier_boot:
        return f"The machine was restarted while the job {'waited for the device' if waited else 'ran'}.", resume
    error = _last_error(folder, before)
    if error:
        return f"Its worker crashed: {error}", f"The full log is in {folder.log}. {resume}"
    if waited and "rss" not in (before.beat or {}):
        return "The process that waited for the device was ended.", resume
    free = shutil.disk_usage(folder.path).free
    if free < 1 << 20:
        return f"Its worker ended, and the disk is full: {folder.path} has {size(free)} free.", full_disk_remedy(folder)
    kills = out_of_memory_kills()
    if kills is not None and before.out_of_memory is not None and kills > before.out_of_memory:
        ended = kills - before.out_of_memory
        message = f"Its worker was killed, probably out of memory: the kernel has ended {ended} process(es) since."
        remedy = f"Free memory, then run: tuneport resume {folder.ref} — or start a new run and {less_memory}."
        return f"{message}{_last_memory(before)}", remedy
    probably = "probably out of memory" if _was_short(before) else "out of memory or by someone"
    message = f"Its worker was killed, {probably}: it logged no error."
    return f"{message}{_last_memory(before)} Its log is {folder.log}.", resume


def _last_error(folder: Folder, before: Holder) -> str | None:
    """The last line of the last traceback in the log, or the interpreter's message about its own crash."""
    try:
        printed = folder.log.read_bytes()[before.log_size :].decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    crash = next((line for line in printed.splitlines() if line.startswith("Fatal Python error")), None)
    if crash is not None:
        return crash
    trace = printed.rpartition("Traceback (most recent call last)")[2]
    errors = [line for line in trace.splitlines() if _ERROR_LINE.match(line)]
    return errors[-1] if errors and trace != printed else None


def _was_short(before: Holder) -> bool:
    """Whether the machine had less than a twentieth as much memory free as the worker used, or 200 MB."""
    beat: Any = before.beat or {}
    return "rss" in beat and beat["available"] < max(2e8, beat["rss"] / 20)


def _last_memory(before: Holder) -> str:
    beat: Any = before.beat or {}
    if "rss" not in beat:
        return ""
    used, free = size(beat["rss"]), size(beat["available"])
    return f" At its last heartbeat it used {used}, and the machine had {free} free."
