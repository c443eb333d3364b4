"""A job is a folder: what stands where, and how any process reads it while its one owner writes.

```
request.json      what was asked, resolved, with versions and the data's fingerprint; written last, so a folder
                  without it is a start that was cut off
train.jsonl, validation.jsonl   the job's own snapshot of the data, one canonical example a line
lock, owner.json, beat.json     who may write (owner.py)
status.json       where the job stands; derived from the events, replaced atomically
events.jsonl      what happened, one event a line, numbered from 1 without gaps
pause, cancel     requests: they exist or not, so any process can make one; the worker renames `pause` when it obeys
log.txt           what the worker printed, stack traces included
checkpoints/  model/
```
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tuneport.errors import DataError, HomeError, JobNotFound, UsageError
from tuneport.plugin import Event, Status, home, open_regular, utc_now

if TYPE_CHECKING:
    from tuneport.plugin import Dataset, Example

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")

_REQUEST = {"intent": str, "created": str, "base": str, "settings": dict, "options": dict}

_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(kw_only=True)
class JobStatus:
    """What status.json says: the fields of `tuneport.JobState` that outlive the process that wrote them, and `seq`, the
    number of the event that set the status.
    """

    seq: int = 0
    status: Status = Status.QUEUED
    native: str = ""
    message: str = ""
    remedy: str | None = None
    step: int = 0
    total_steps: int | None = None
    tokens: int = 0
    queue_position: int | None = None
    seconds_left: float | None = None
    created: datetime = field(default_factory=utc_now)
    started: datetime | None = None
    finished: datetime | None = None
    details: dict[str, Any] = field(default_factory=dict)


class Folder:
    """The folder of one job, there or not; reads what others write. Only an `Owner` writes what is said of the job."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.ref = f"torch:{path.name}"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.log = path / "log.txt"
        self.events_file = path / "events.jsonl"

    @classmethod
    def named(cls, name: str) -> Folder:
        """The folder of that job in home; raises JobNotFound for what cannot be a job's name."""
        if not NAME.match(name):
            raise JobNotFound(f"torch has no job {name!r}.", remedy="`tuneport jobs` lists the jobs.")
        return cls(home("jobs", "torch") / name)

    @property
    def exists(self) -> bool:
        """Whether the job was written whole."""
        return (self.path / "request.json").exists()

    def request(self) -> dict[str, Any]:
        """What was asked of the job; raises JobNotFound where there is no whole job, HomeError where its file is
        damaged.
        """
        path = self.path / "request.json"
        try:
            request = msgspec.json.decode(read_file(path))
        except FileNotFoundError:
            raise JobNotFound(f"torch has no job {self.name!r}.", remedy="`tuneport jobs` lists the jobs.") from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._damaged(path, str(error)) from error
        except OSError as error:
            raise self._damaged(path, error.strerror or str(error)) from error
        if not isinstance(request, dict) or any(
            not isinstance(request.get(key), kind) for key, kind in _REQUEST.items()
        ):
            raise self._damaged(path, "it lacks what a start writes")
        return request

    def _damaged(self, path: Path, why: str) -> HomeError:
        return HomeError(
            f"{path} is damaged: {why}.",
            remedy=f"What was trained stays in {self.model}, which can be named by its path. To be rid of the job, "
            f"move {self.path} away, then run: tuneport delete {self.ref}",
        )

    def status(self) -> JobStatus | None:
        """What status.json says, or None before its first writing."""
        try:
            return msgspec.json.decode(read_file(self.path / "status.json"), type=JobStatus)
        except (OSError, msgspec.DecodeError, RecursionError):  # after a power cut; the events know better
            return None

    def settled(self) -> JobStatus:
        """The status after the newest status event, for when nobody is left to write it into status.json."""
        told = [event for event in EventReader(self.events_file).after(0) if event.kind == "status"]
        return caught_up(self.status(), told[-1] if told else None)

    def asks(self, what: str) -> bool:
        """Whether somebody asks for `pause` or `cancel`."""
        return (self.path / what).exists()

    def ask(self, what: str) -> None:
        """Ask for `pause` or `cancel`."""
        try:
            (self.path / what).touch()
        except FileNotFoundError:
            raise JobNotFound(f"{self.ref} was deleted.", remedy="`tuneport jobs` lists the jobs.") from None

    def unask(self, what: str) -> bool:
        """Take a request back; False when there is none or the worker already obeys it."""
        try:
            (self.path / what).unlink()
        except FileNotFoundError:
            return False
        return True

    def write_rows(self, name: str, rows: Dataset) -> tuple[int, str]:
        """Snapshot examples into `name`.jsonl; their number, and SHA-256 over their digests in order."""
        total, fingerprint = 0, hashlib.sha256()
        with writing(self.path / f"{name}.jsonl") as stream:
            for line in rows.lines():
                stream.write(line + b"\n")
                fingerprint.update(hashlib.sha256(line).digest())
                total += 1
        return total, fingerprint.hexdigest()

    def rows(self, name: str, fingerprint: str) -> Iterator[Example]:
        """The examples of a snapshot; raises DataError at the end when they are not those that were written."""
        from tuneport.plugin import Example

        decode = msgspec.json.Decoder(Example).decode
        path, seen = self.path / f"{name}.jsonl", hashlib.sha256()
        remedy = "The job's own copy of the data is damaged. Start the run again: tuneport run … --again"
        try:
            with open_regular(path) as stream:
                for line in stream:
                    seen.update(hashlib.sha256(line.removesuffix(b"\n")).digest())
                    yield decode(line)
        except (OSError, msgspec.DecodeError) as error:
            raise DataError(f"{path} cannot be read: {error}.", remedy=remedy) from error
        if seen.hexdigest() != fingerprint:
            raise DataError(f"{path} is not what was written when the job was started.", remedy=remedy)


class EventReader:
    """Reads a growing events.jsonl; goes on where it stood, and sees whole lines only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seq = 0
        self._offset = 0

    def after(self, seq: int) -> Iterator[Event]:
        """The events that follow number `seq`, as far as they are written."""
        if seq < self._seq:
            self._seq = self._offset = 0
        try:
            stream = open_regular(self._path)
        except FileNotFoundError:
            return
        with stream:
            stream.seek(self._offset)
            for line in stream:
                event = whole_event(line)
                if event is None:
                    return
                if event.seq <= seq:
                    self._seq, self._offset = event.seq, stream.tell()
                    continue
                yield event


def whole_event(line: bytes) -> Event | None:
    """The event of a line, or None when a kill or a power cut tore it."""
    if not line.endswith(b"\n"):
        return None
    try:
        return Event.from_dict(msgspec.json.decode(line))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, RecursionError):
        return None


def caught_up(status: JobStatus | None, event: Event | None) -> JobStatus:
    """The status as the newest status event has it: events are written first."""
    status = status or JobStatus()
    if event is None or event.seq <= status.seq:
        return status
    standing, told = Status(event.data["status"]), event.data
    finished = event.time if standing.terminal else None
    return replace(
        status,
        seq=event.seq,
        status=standing,
        message=event.message,
        native=told["native"],
        remedy=told["remedy"],
        finished=finished,
    )


def size_of(path: Path) -> int:
    """Bytes of a file; 0 for what is none or has just gone."""
    try:
        return path.stat().st_size if path.is_file() and not path.is_symlink() else 0
    except FileNotFoundError:
        return 0


class writing:  # noqa: N801 - used like the function open
    """Write a file so that it is there whole or not at all: beside it, synced, then renamed. OSErrors say the cure."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._path = path
        self._durable = durable

    def __enter__(self) -> Any:
        handle, self._beside = tempfile.mkstemp(prefix=f".{self._path.name}.", suffix=".tmp", dir=self._path.parent)
        self._stream = os.fdopen(handle, "wb")
        return self._stream

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with self._stream:
                if kind is None and self._durable:
                    self._stream.flush()
                    os.fsync(self._stream.fileno())
            if kind is None:
                Path(self._beside).replace(self._path)
                if self._durable:
                    sync(self._path.parent)
        finally:
            Path(self._beside).unlink(missing_ok=True)


def write_json(path: Path, value: object, *, durable: bool = True) -> None:
    """Write a value as JSON, whole or not at all."""
    with writing(path, durable=durable) as stream:
        stream.write(_encode(value))


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises OSError, also for a pipe or a device, where reading might never end."""
    with open_regular(path) as file:
        return file.read()


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, outlive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def claim_intent(intent: str, name: str) -> str:
    """The job's name that belongs to an intent: the given one for whoever comes first, whichever process asks."""
    claims = home("jobs", "torch", ".intents")
    claim = claims / hashlib.sha256(intent.encode()).hexdigest()
    with tempfile.NamedTemporaryFile(dir=claims, prefix=".", suffix=".tmp") as beside:
        beside.write(name.encode())
        beside.flush()
        os.fsync(beside.fileno())
        try:
            os.link(beside.name, claim)  # fails where the name exists, which a rename does not
        except FileExistsError:
            return read_file(claim).decode()
    sync(claims)
    return name


def release_intent(intent: str) -> None:
    """Forget to which job an intent belongs; for a job that is deleted."""
    (home("jobs", "torch", ".intents") / hashlib.sha256(intent.encode()).hexdigest()).unlink(missing_ok=True)


def check_name(name: str) -> None:
    """Raise UsageError for a name that cannot be a folder's."""
    if not NAME.match(name):
        raise UsageError(
            f"{name!r} cannot be a job's name.", remedy="Use letters, digits, dots, hyphens and underscores."
        )
