"""The one process that may write a job's folder: a lock, an epoch that shuts out earlier owners, a heartbeat."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import msgspec

from tuneport.contract.events import Event, Status, utc_now
from tuneport.errors import BackendError
from tuneport.files import open_regular, sync
from tuneport.local.eventlog import JobStatus, apply_event, parse_event
from tuneport.local.folder import Folder, read_file, size_of, write_record
from tuneport.local.process import Identity, out_of_memory_kills

BEAT_SECONDS = 2.0
_RESERVE = 256 * 1024  # bytes kept free so that a full disk can still be reported
_STEPWISE = ("metric", "checkpoint")
_RELEASE_SECONDS = 5.0  # how long killed processes may take to release the lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The owner of a folder, as owner.json and beat.json describe it. `out_of_memory` is the number of processes that
    the kernel had killed for memory when this owner started, `log_size` the size of the log then, in bytes.
    """

    epoch: int
    identity: Identity | None
    out_of_memory: int | None = None
    log_size: int = 0
    beat: Mapping[str, float] | None = None

    @property
    def alive(self) -> bool:
        """Whether the owner is running; False for a folder that was given back."""
        return self.identity is not None and self.identity.alive(self.beat["time"] if self.beat else None)

    @property
    def silent_seconds(self) -> float | None:
        """Seconds since the last beat; None before the first."""
        return max(0.0, time.monotonic() - self.beat["time"]) if self.beat else None


def holder(folder: Folder) -> Holder | None:
    """The owner of the folder, or its last one; None when it never had one."""
    raw, beat = _read(folder.path / "owner.json"), _read(folder.path / "beat.json")
    if raw is None:
        return None
    try:
        if beat is not None and (beat["epoch"] != raw["epoch"] or not isinstance(beat["time"], float | int)):
            beat = None
        return Holder(
            epoch=int(raw["epoch"]),
            identity=Identity.from_dict(raw["identity"]) if raw["identity"] else None,
            out_of_memory=raw["out_of_memory"],
            log_size=int(raw["log_size"]),
            beat=beat,
        )
    except (KeyError, TypeError, ValueError):
        return None  # damaged: as if there were no owner


class Fenced(BackendError):  # noqa: N818 - reads as what happened
    """Another process owns the folder now, or the folder is gone: this process must stop writing."""


class Owner:
    """The right to write a job's folder, held by one process at a time for as long as its lock is open.

    Every status is written as an event first and to status.json afterward, so a kill between the two loses nothing: the
    next owner reads it from the events. After a resume the training repeats the steps since the last checkpoint; events
    about those steps are not written twice.
    """

    def __init__(self, folder: Folder, lock: int, epoch: int) -> None:
        self.folder = folder
        self.lock = lock
        self.epoch = epoch
        self.now = JobStatus()
        self._mutex = threading.RLock()
        self._open = True
        self._events = os.open(folder.events_file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._seq = 0
        self._reported: dict[tuple[str, bool], int] = {}
        self._last_status: Event | None = None
        self._written = 0.0
        self._log_size = size_of(folder.log)

    @classmethod
    def take(cls, folder: Folder) -> Self | None:
        """Become the owner, or return None if another process is. Kills and removes what a dead owner left."""
        deadline = time.monotonic() + _RELEASE_SECONDS
        while True:
            lock = _try_lock(folder.path / "lock")
            if lock is not None:
                break
            before = holder(folder)
            if (before is not None and before.alive) or time.monotonic() > deadline:
                return None
            if before is not None and before.identity is not None:
                before.identity.kill_group()  # a held lock whose holder is dead: its children hold it
            time.sleep(0.02)
        with ExitStack() as undo:  # without room on the disk, this process must not keep the lock
            undo.callback(os.close, lock)
            before = holder(folder)
            if before is not None and before.identity is not None:
                before.identity.kill_group()
            for orphan in folder.path.glob(".*"):  # only unfinished files and folders have such names
                shutil.rmtree(orphan) if orphan.is_dir() else orphan.unlink(missing_ok=True)
            owner = cls(folder, lock, before.epoch + 1 if before else 1)
            undo.pop_all()
            undo.callback(owner.let_go)
            owner.sign(Identity.of(os.getpid()))
            owner.catch_up()
            undo.pop_all()
        return owner

    @classmethod
    def adopt(cls, folder: Folder, lock: int, epoch: int) -> Self:
        """Continue as the owner, with a lock that the parent process took and passed on."""
        os.set_inheritable(lock, False)
        owner = cls(folder, lock, epoch)
        owner.verify()
        owner.sign(Identity.of(os.getpid(), leads_group=os.getpgrp() == os.getpid()))
        owner.catch_up()
        return owner

    def sign(self, identity: Identity | None) -> None:
        """Write to owner.json which process owns the folder in this epoch."""
        signed = {
            "epoch": self.epoch,
            "identity": identity.to_dict() if identity else None,
            "out_of_memory": out_of_memory_kills(),
            "log_size": self._log_size,
        }
        write_record(self.folder.path / "owner.json", signed)

    def catch_up(self) -> None:
        """Read the job's status, and cut an incomplete last line off the events."""
        with open_regular(self.folder.events_file) as stream:
            for line in stream:
                event = parse_event(line)
                if event is None or event.seq != self._seq + 1:
                    os.ftruncate(self._events, stream.tell() - len(line))
                    break
                self._seq = event.seq
                self._remember(event)
        self.now = apply_event(self.folder.status() or JobStatus(), self._last_status)

    def verify(self) -> None:
        """Raise Fenced when another owner took over or the folder is gone."""
        current = _read(self.folder.path / "owner.json")
        if current is None or current["epoch"] != self.epoch:
            raise Fenced(f"{self.folder.ref} has another owner now, or was deleted; this process stops.")

    def event(self, kind: str, message: str, *, level: str = "info", **data: Any) -> None:
        """Append an event. Checkpoint and status events are on disk when this returns."""
        with self._mutex:
            if kind in _STEPWISE and self._reported.get(_series(kind, data), -1) >= data.get("step", 0):
                return
            event = Event(seq=self._seq + 1, time=utc_now(), kind=kind, message=message, level=level, data=data)  # type: ignore[arg-type]  # authors use the kinds and levels of the contract
            line = msgspec.json.encode(event.to_dict()) + b"\n"
            size = os.fstat(self._events).st_size
            try:
                if os.write(self._events, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if kind in ("status", "checkpoint"):
                    os.fsync(self._events)
            except OSError:
                os.ftruncate(self._events, size)
                raise
            self._seq = event.seq
            self._remember(event)

    def status(self, status: Status, message: str = "", *, level: str = "info", **changes: Any) -> None:
        """Set the status; `changes` are other fields of JobStatus. The same status and message make no new event."""
        with self._mutex:
            self.verify()
            changes.setdefault("native", "")
            changes.setdefault("remedy", None)
            changed = replace(self.now, status=status, message=message, **changes)
            if (status, message) != (self.now.status, self.now.message) or not self.now.seq:
                data = {"status": status.value, "native": changed.native, "remedy": changed.remedy}
                self._with_reserve(lambda: self.event("status", message or status.value, level=level, **data))
                changed.seq = self._seq
            self.now = changed
            self._with_reserve(lambda: write_record(self.folder.path / "status.json", self.now))

    def progress(self, *, now: bool = False, **changes: Any) -> None:
        """Update numbers in status.json, at most twice a second unless `now`."""
        with self._mutex:
            self.now = replace(self.now, **changes)
            if now or time.monotonic() - self._written > 0.5:
                self._written = time.monotonic()
                write_record(self.folder.path / "status.json", self.now, durable=False)

    def beat(self, **facts: float) -> None:
        """Write a heartbeat. Raises Fenced, as `verify` does."""
        self.verify()
        beat = {"epoch": self.epoch, "time": time.monotonic(), **facts}
        write_record(self.folder.path / "beat.json", beat, durable=False)

    def keep_reserve(self) -> None:
        """Reserve some disk space, so that a full disk can still be reported."""
        (self.folder.path / "reserve").write_bytes(bytes(_RESERVE))

    def free_reserve(self) -> bool:
        """Free that space; False when there is none."""
        try:
            (self.folder.path / "reserve").unlink()
        except FileNotFoundError:
            return False
        sync(self.folder.path)
        return True

    @property
    def mutex(self) -> threading.RLock:
        """Held while anything is written: its holder can end the process without leaving an incomplete line."""
        return self._mutex

    @property
    def last_checkpoint_reported(self) -> int:
        """The step of the newest checkpoint event; -1 before the first."""
        return self._reported.get(("checkpoint", False), -1)

    @property
    def last_step_reported(self) -> int:
        """The step of the newest metric event; -1 before the first."""
        return self._reported.get(("metric", False), -1)

    def give_back(self) -> None:
        """Stop being the owner; the folder then has none. Does nothing after `let_go`."""
        if not self._open:
            return
        try:
            self.sign(None)
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Close the lock and the events without changing owner.json; a child that inherited the lock still holds it."""
        self._open = False
        os.close(self._events)
        os.close(self.lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def _remember(self, event: Event) -> None:
        if event.kind in _STEPWISE:
            self._reported[_series(event.kind, event.data)] = event.data.get("step", 0)
        elif event.kind == "status":
            self._last_status = event

    def _with_reserve(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError:
            if not self.free_reserve():
                raise
            write()


def _series(kind: str, data: Mapping[str, Any]) -> tuple[str, bool]:
    """Events about steps come in series, each in the order of the steps: training, validation, checkpoints."""
    return (kind, "valid_loss" in data)


def _try_lock(path: Path) -> int | None:
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        try:
            if os.fstat(lock).st_ino == path.stat().st_ino:
                return lock
        except FileNotFoundError:
            os.close(lock)
            raise
        os.close(lock)  # another file has that name now: try that one


def _read(path: Path) -> Any:
    try:
        return msgspec.json.decode(read_file(path))
    except (OSError, msgspec.DecodeError, RecursionError):
        return None
