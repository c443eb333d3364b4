"""Starting the detached worker of a job, and the words for one that ended without a word."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import threading
from typing import Any

from tuneport.errors import UnavailableError
from tuneport.plugin import Status, home, local_path
from tuneport_torch.jobs import devices, slots, waiting
from tuneport_torch.jobs.folder import Folder
from tuneport_torch.jobs.owner import Fenced, Holder, Owner
from tuneport_torch.jobs.process import Identity, out_of_memory_kills

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The errors of a write for which there is no room: a full disk, a used-up quota, a limit on the size of files."""

LESS_MEMORY = (
    "train with less at once: --set backends.torch.tokens_per_batch=256, "
    "--set backends.torch.activation_checkpointing=true, a smaller adapter.rank or a smaller model"
)
"""What to change when memory is short."""

# Threads that wait for each other soon sleep instead of spinning on. On a busy machine spinning takes the time that the
# others need, and makes training several times slower; sleeping at once halves the speed of an idle one. This stands
# between, for GNU's OpenMP, which torch brings on Linux (figures in docs/performance.md).
WAITING = {"GOMP_SPINCOUNT": "20000"}


WAITS = "waiting"
"""The native status of a job in the queue whose worker has not begun."""


def launch(owner: Owner) -> None:
    """Put the job into the queue, hand its folder to a new process and return at once. That process waits in 3 MB and
    becomes the worker in its turn. It inherits the lock, so that there is no moment in which another could take it, and
    lives in a session of its own, so that neither this process nor the terminal ends it.
    """
    folder = owner.folder
    for request in ("pause", "pausing"):
        folder.unask(request)
    settings = folder.request()["settings"]
    pool, per_device = devices.pool(settings["device"]), 1 if settings["slots"] == "auto" else settings["slots"]
    names = [device.name for device in devices.devices(pool)]
    slots.join(folder.name, pool)
    if not names or slots.claim(folder.name, pool, names, per_device):
        owner.status(Status.QUEUED, "Starting a worker.", native="starting", queue_position=None, finished=None)
    else:
        place = slots.position(folder.name) or 1
        message = slots.told(pool, place)
        owner.status(Status.QUEUED, message, native=WAITS, queue_position=place, finished=None)
    try:
        worker = _spawn(owner, [pool, ",".join(names), str(per_device)])
    except OSError as error:
        remedy = f"Then run: tuneport resume {folder.ref}"
        owner.status(Status.INTERRUPTED, f"The worker could not be started: {error}.", remedy=remedy, level="error")
        slots.leave(folder.name)
        raise UnavailableError(f"The worker of {folder.ref} could not be started: {error}.", remedy=remedy) from error
    try:
        owner.verify()
        owner.sign(Identity.of(worker.pid, leads_group=True))  # as the worker does; but it may wait for long before
    except Fenced:  # this process was held up, and the worker has come and gone meanwhile
        pass
    owner.let_go()
    threading.Thread(target=worker.wait, daemon=True).start()  # takes its exit code, so that no zombie stays


def _spawn(owner: Owner, turn: list[str]) -> subprocess.Popen[bytes]:
    folder, lock, epoch = owner.folder, str(owner.lock), str(owner.epoch)
    worker = [sys.executable, "-P", "-m", "tuneport_torch.worker", str(folder.path), lock, epoch]
    queued = [sys.executable, "-I", "-S", waiting.__file__, *slots.places(), folder.name, *turn, lock, epoch]
    with folder.log.open("ab") as log:
        return subprocess.Popen(
            [*queued, *worker],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[owner.lock],
            start_new_session=True,
            cwd=folder.path,
            env={**WAITING, **os.environ, "TUNEPORT_HOME": str(home())},
        )


def why_gone(folder: Folder, before: Holder | None) -> tuple[str, str]:
    """What became of a worker that left no word, as far as traces tell; and what to type."""
    resume = f"Run: tuneport resume {folder.ref}"
    if before is None or before.identity is None:
        return "It was never begun: what started it was cut off.", resume
    now = folder.status()
    waited = now is not None and now.status is Status.QUEUED and now.native == WAITS
    if before.identity.rebooted:
        return f"The machine was restarted while it {'waited for the device' if waited else 'ran'}.", resume
    broke = _last_words(folder, before)
    if broke:
        return f"Its worker broke: {broke}", f"The whole story is in {folder.log}. {resume}"
    if waited and "rss" not in (before.beat or {}):
        return "The process that waited for the device in its place was ended.", resume
    free = shutil.disk_usage(folder.path).free
    if free < 1 << 20:
        return f"Its worker ended, and the disk is full: {folder.path} has {size(free)} free.", full_disk_remedy(folder)
    kills = out_of_memory_kills()
    if kills is not None and before.out_of_memory is not None and kills > before.out_of_memory:
        ended = kills - before.out_of_memory
        message = f"Its worker was killed, probably out of memory: the kernel has ended {ended} process(es) since."
        remedy = f"Free memory, then run: tuneport resume {folder.ref} — or start anew and {LESS_MEMORY}."
        return f"{message}{_last_memory(before)}", remedy
    probably = "probably out of memory" if _was_short(before) else "out of memory or by somebody"
    message = f"Its worker was killed, {probably}: it left no word."
    return f"{message}{_last_memory(before)} What it printed is in {folder.log}.", resume


def full_disk(folder: Folder, error: OSError) -> tuple[str, str]:
    """The words for a write that had no room."""
    where = error.filename or folder.path
    reason = {errno.EDQUOT: "the disk quota is used up", errno.EFBIG: "a limit on the size of files was reached"}
    what = reason.get(error.errno or 0, "the disk is full")
    try:
        free = f"; {size(shutil.disk_usage(folder.path).free)} free at {folder.path}"
    except OSError:
        free = ""
    return f"Nothing more could be written to {where}: {what}{free}.", full_disk_remedy(folder)


def full_disk_remedy(folder: Folder) -> str:
    """What to free, and how to go on."""
    free = "Free some space on that disk (`tuneport prune` says what tuneport keeps)"
    return f"{free}, then run: tuneport resume {folder.ref}"


def size(count: float) -> str:
    """A number of bytes as people read it.

    >>> size(1_300_000)
    '1.3 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def absolute(name: str) -> str:
    """A base model's name that means the same from any working folder."""
    return str(local_path(name).absolute()) if name.startswith((".", "~", "/")) else name


def _last_words(folder: Folder, before: Holder) -> str | None:
    """How the last traceback that the worker printed ends, or what the interpreter said of its own crash."""
    try:
        printed = folder.log.read_bytes()[before.log_size :].decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    crash = next((line for line in printed.splitlines() if line.startswith("Fatal Python error")), None)
    if crash is not None:
        return crash
    trace = printed.rpartition("Traceback (most recent call last)")[2]
    said = [line for line in trace.splitlines() if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b", line)]
    return said[-1] if said and trace != printed else None


def _was_short(before: Holder) -> bool:
    """Whether the machine had less than a twentieth as much memory free as the worker used, or 200 MB."""
    beat: Any = before.beat or {}
    return "rss" in beat and beat["available"] < max(2e8, beat["rss"] / 20)


def _last_memory(before: Holder) -> str:
    beat: Any = before.beat or {}
    if "rss" not in beat:
        return ""
    used, free = size(beat["rss"]), size(beat["available"])
    return f" When it was last heard of, it used {used} and the machine had {free} free."
