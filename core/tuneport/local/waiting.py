"""A job in the queue is a process of 3 MB: this file, run without packages. It becomes the job's worker when its turn
comes.

Do not add an import without measuring what it costs: a hundred jobs may wait. `slots` imports this file too, so that
there is one way to read and change the queue.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LOOK_SECONDS = 0.5
_BEAT_SECONDS = 5.0
_NONE = "-"


class Ticket:
    """A job's place in the queue for a kind of device (`pool`), and its device once it has one."""

    __slots__ = ("device", "job", "pool")

    def __init__(self, job: str, pool: str, device: str = "") -> None:
        self.job, self.pool, self.device = job, pool, device


class Queue:
    """The tickets in order, locked for one process at a time; tickets of jobs without an owner are removed."""

    def __init__(self, slots: str, jobs: str) -> None:
        self._slots, self._jobs = slots, jobs

    def __enter__(self) -> list[Ticket]:
        self._lock = os.open(f"{self._slots}/lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            stored = read(self._slots)
        except BaseException:
            os.close(self._lock)
            raise
        self._stored = _lines(stored)
        self._tickets = [one for one in stored if is_owned(f"{self._jobs}/{one.job}")]
        return self._tickets

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            lines = _lines(self._tickets)
            if kind is None and lines != self._stored:
                _write(f"{self._slots}/queue", lines)
        finally:
            os.close(self._lock)


def read(slots: str) -> list[Ticket]:
    """The tickets as they were last written, those of dead jobs included; needs no lock."""
    try:
        handle = os.open(f"{slots}/queue", os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return []
    try:
        text = os.read(handle, os.fstat(handle).st_size).decode("utf-8", "replace")
    finally:
        os.close(handle)
    parts = [line.split(" ") for line in text.splitlines()]
    return [Ticket(one[0], one[1], "" if one[2] == _NONE else one[2]) for one in parts if len(one) == 3]


def is_owned(folder: str) -> bool:
    """Whether a process holds the lock of a job's folder."""
    try:
        lock = os.open(f"{folder}/lock", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def claim(tickets: list[Ticket], job: str, pool: str, devices: Sequence[str], per_device: int) -> str | None:
    """The device for a job whose turn it is, or None; a job that has a device keeps it."""
    mine = next((one for one in tickets if one.job == job), None)
    if mine is None:
        mine = Ticket(job, pool)
        tickets.append(mine)
    mine.pool = pool
    if mine.device in devices:
        return mine.device
    ahead = [one for one in tickets[: tickets.index(mine)] if one.pool == pool and not one.device]
    held = [one.device for one in tickets]
    free = [device for device in devices if held.count(device) < per_device]
    if ahead or not free:
        return None
    mine.device = min(free, key=held.count)
    return mine.device


def main(arguments: list[str]) -> None:
    """SLOTS JOBS JOB POOL DEVICES PER_DEVICE LOCK EPOCH COMMAND…: wait until the job has a device or is asked to stop,
    then become the command, which obeys.
    """
    slots, jobs, job, pool, names, per_device, lock, epoch = arguments[:8]
    folder, devices, beaten = f"{jobs}/{job}", names.split(","), 0.0
    while not _turn(slots, jobs, job, pool, devices, int(per_device)):
        if os.path.exists(f"{folder}/cancel") or os.path.exists(f"{folder}/pause"):  # noqa: PTH110 - pathlib costs 1 MB
            break
        if not _same(f"{folder}/lock", int(lock)):
            return  # the job was deleted
        if time.monotonic() - beaten > _BEAT_SECONDS:
            beaten = time.monotonic()
            try:  # noqa: SIM105 - contextlib costs memory
                _write(f"{folder}/beat.json", f'{{"epoch":{int(epoch)},"time":{beaten}}}')
            except OSError:  # a full disk: the heartbeat matters to other containers only
                pass
        time.sleep(LOOK_SECONDS)
    command = arguments[8:]
    os.execv(command[0], command)  # noqa: S606 - the command line that launch built


def _turn(slots: str, jobs: str, job: str, pool: str, devices: list[str], per_device: int) -> bool:
    """Whether the job has a device now. Only the first waiting job looks at all others, so a hundred cost little."""
    if devices == [""]:
        return True  # there is none of this kind: the worker reports it
    tickets = read(slots)
    place = next((place for place, one in enumerate(tickets) if one.job == job), None)
    if place is not None:
        if tickets[place].device in devices:
            return True
        before = next((one for one in tickets[:place][::-1] if one.pool == pool and not one.device), None)
        if before is not None and is_owned(f"{jobs}/{before.job}"):
            return False
    try:
        with Queue(slots, jobs) as queue:
            return claim(queue, job, pool, devices, per_device) is not None
    except OSError as error:  # a full disk is no reason to leave the queue
        if place is None:
            sys.stderr.write(f"The queue cannot be changed: {error}\n")
        return False


def _same(path: str, handle: int) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(handle).st_ino  # noqa: PTH116 - see above
    except FileNotFoundError:
        return False


def _lines(tickets: list[Ticket]) -> str:
    return "".join(f"{one.job} {one.pool} {one.device or _NONE}\n" for one in tickets)


def _write(path: str, text: str) -> None:
    """Write a file completely or not at all."""
    folder, _, name = path.rpartition("/")
    draft = f"{folder}/.{name}.{os.getpid()}.tmp"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    data = text.encode()
    try:
        if os.write(handle, data) != len(data):
            raise OSError(28, "No space left on device")
    except OSError:
        os.unlink(draft)  # noqa: PTH108 - see above
        raise
    finally:
        os.close(handle)
    os.rename(draft, path)  # noqa: PTH104 - see above


if __name__ == "__main__":
    main(sys.argv[1:])
