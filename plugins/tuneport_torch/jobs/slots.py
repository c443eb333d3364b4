"""Several jobs, one device: a queue in home, first come first served."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from tuneport import home
from tuneport_torch.jobs.folder import Folder, write_json
from tuneport_torch.jobs.owner import holder


def join(job: str, pool: str) -> None:
    """Stand at the end of the queue for a kind of device: "cpu", "cuda" or "mps"."""
    with _queue() as tickets:
        tickets[:] = [ticket for ticket in tickets if ticket["job"] != job]
        tickets.append({"job": job, "pool": pool, "device": None})


def claim(job: str, pool: str, devices: Sequence[str], per_device: int) -> str | None:
    """The device for a job whose turn it is, or None; one that has a device keeps it. `devices` are the names within
    the pool, of which each takes `per_device` jobs.
    """
    with _queue() as tickets:
        mine = next((ticket for ticket in tickets if ticket["job"] == job), None)
        if mine is None:
            mine = {"job": job, "pool": pool, "device": None}
            tickets.append(mine)
        mine["pool"] = pool
        if mine["device"] in devices:
            return str(mine["device"])
        ahead = [ticket for ticket in tickets[: tickets.index(mine)] if ticket["pool"] == pool and not ticket["device"]]
        held = [ticket["device"] for ticket in tickets]
        free = [device for device in devices if held.count(device) < per_device]
        if ahead or not free:
            return None
        mine["device"] = min(free, key=held.count)
        return str(mine["device"])


def position(job: str) -> int | None:
    """How many jobs are before this one, those on the device included; 0: it has its device; None: not in the queue."""
    with _queue() as tickets:
        names = [ticket["job"] for ticket in tickets]
        if job not in names:
            return None
        mine = tickets[names.index(job)]
        return 0 if mine["device"] else sum(ticket["pool"] == mine["pool"] for ticket in tickets[: names.index(job)])


def leave(job: str) -> None:
    """Give the device or the place in the queue back."""
    with _queue() as tickets:
        tickets[:] = [ticket for ticket in tickets if ticket["job"] != job]


@contextmanager
def _queue() -> Iterator[list[dict[str, Any]]]:
    """The tickets in order, those of dead jobs swept out; changes are kept."""
    folder = home("slots", "torch")
    path = folder / "queue.json"
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            stored = path.read_bytes()
            tickets = [ticket for ticket in msgspec.json.decode(stored) if _lives(ticket["job"])]
        except (FileNotFoundError, msgspec.DecodeError):
            stored, tickets = b"", []
        yield tickets
        if msgspec.json.encode(tickets) != stored:
            write_json(path, tickets, durable=False)
    finally:
        os.close(lock)


def _lives(job: str) -> bool:
    owner = holder(Folder.named(job))
    return owner is not None and owner.alive
