"""A job is a folder: what is in it, and how any process reads it while its one owner writes.

```
request.json      what was asked, resolved, with versions and the data's fingerprint; written last, so a folder
                  without it is a start that was interrupted
train.jsonl, validation.jsonl   the job's own snapshot of the data, one canonical example a line
lock, owner.json, beat.json     who may write (owner.py)
status.json       the job's status; derived from the events, replaced atomically
events.jsonl      what happened, one event a line, numbered from 1 without gaps
pause, cancel     requests: they exist or not, so any process can make one; the worker renames `pause` when it obeys
log.txt           what the worker printed, stack traces included
checkpoints/  model/
```
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tuneport.doors import LOCAL, public
from tuneport.errors import DataError, HomeError, JobNotFound
from tuneport.files import open_regular, replace_file, write_file
from tuneport.homefolder import home
from tuneport.local.eventlog import EventReader, JobStatus, apply_event

if TYPE_CHECKING:
    from tuneport.dataset import Dataset, Example

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")

_REQUEST = {"intent": str, "created": str, "base": str, "settings": dict, "options": dict}

_encode = msgspec.json.Encoder(order="deterministic").encode


@public(LOCAL)
class Folder:
    """The folder of one job, which need not exist; it reads what others write. Only an `Owner` writes the status and
    the events.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.backend = path.parent.name
        self.ref = f"{self.backend}:{path.name}"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.log = path / "log.txt"
        self.events_file = path / "events.jsonl"

    @staticmethod
    def can_have(name: str) -> bool:
        """Whether a job can have that name: letters, digits, dots, hyphens and underscores."""
        return _NAME.match(name) is not None

    @classmethod
    def named(cls, backend: str, name: str) -> Folder:
        """The folder of a backend's job in home. Raises JobNotFound for a name that no job can have."""
        if not cls.can_have(name):
            raise JobNotFound(f"{backend} has no job {name!r}.", remedy="`tuneport jobs` lists the jobs.")
        return cls(home("jobs", backend) / name)

    @property
    def exists(self) -> bool:
        """Whether the job was completely written."""
        return (self.path / "request.json").exists()

    def request(self) -> dict[str, Any]:
        """What was asked of the job. Raises JobNotFound where there is no complete job, HomeError where its file is
        damaged.
        """
        path = self.path / "request.json"
        try:
            request = msgspec.json.decode(read_file(path))
        except FileNotFoundError:
            raise JobNotFound(
                f"{self.backend} has no job {self.name!r}.", remedy="`tuneport jobs` lists the jobs."
            ) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._damage_error(path, str(error)) from error
        except OSError as error:
            raise self._damage_error(path, error.strerror or str(error)) from error
        if not isinstance(request, dict) or any(
            not isinstance(request.get(key), kind) for key, kind in _REQUEST.items()
        ):
            raise self._damage_error(path, "it lacks keys that a start writes")
        return request

    def _damage_error(self, path: Path, why: str) -> HomeError:
        return HomeError(
            f"{path} is damaged: {why}.",
            remedy=f"The trained model stays in {self.model}; you can use it by that path. To remove the job, "
            f"move {self.path} away, then run: tuneport delete {self.ref}",
        )

    def status(self) -> JobStatus | None:
        """What status.json says, or None before it is first written."""
        try:
            return msgspec.json.decode(read_file(self.path / "status.json"), type=JobStatus)
        except (OSError, msgspec.DecodeError, RecursionError):  # after a power cut; the events are more reliable
            return None

    def latest_status(self) -> JobStatus:
        """The status after the newest status event, for use when no process is left to write it into status.json."""
        events = [event for event in EventReader(self.events_file).after(0) if event.kind == "status"]
        return apply_event(self.status() or JobStatus(), events[-1] if events else None)

    def has_request(self, what: str) -> bool:
        """Whether someone has asked for `pause` or `cancel`."""
        return (self.path / what).exists()

    def make_request(self, what: str) -> None:
        """Ask for `pause` or `cancel`. Raises JobNotFound where the folder is gone."""
        try:
            (self.path / what).touch()
        except FileNotFoundError:
            raise JobNotFound(f"{self.ref} was deleted.", remedy="`tuneport jobs` lists the jobs.") from None

    def withdraw_request(self, what: str) -> bool:
        """Withdraw a request; False when there is none or the worker already follows it."""
        try:
            (self.path / what).unlink()
        except FileNotFoundError:
            return False
        return True

    def write_rows(self, name: str, rows: Dataset) -> tuple[int, str]:
        """Write a snapshot of examples to `name`.jsonl. Returns their number, and the SHA-256 of their digests in
        order.
        """
        total, fingerprint = 0, hashlib.sha256()
        with replace_file(self.path / f"{name}.jsonl", mode=0o600) as stream:
            for line in rows.lines():
                stream.write(line + b"\n")
                fingerprint.update(hashlib.sha256(line).digest())
                total += 1
        return total, fingerprint.hexdigest()

    def rows(self, name: str, fingerprint: str) -> Iterator[Example]:
        """The examples of a snapshot. Raises DataError at the end when they are not those that were written."""
        from tuneport.dataset import from_canonical

        path, seen = self.path / f"{name}.jsonl", hashlib.sha256()
        remedy = "The job's own copy of the data is damaged. Start the run again: tuneport run … --again"
        try:
            with open_regular(path) as stream:
                for line in stream:
                    seen.update(hashlib.sha256(line.removesuffix(b"\n")).digest())
                    yield from_canonical(line)
        except (OSError, msgspec.DecodeError) as error:
            raise DataError(f"{path} cannot be read: {error}.", remedy=remedy) from error
        if seen.hexdigest() != fingerprint:
            raise DataError(f"{path} has changed since the job was started.", remedy=remedy)


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if it is not a regular file or has just been removed."""
    try:
        return path.stat().st_size if path.is_file() and not path.is_symlink() else 0
    except FileNotFoundError:
        return 0


def write_record(path: Path, value: object, *, durable: bool = True) -> None:
    """Write a value as one line of JSON, complete or not at all; `durable` says that it must outlive a power cut."""
    data = _encode(value)
    if durable:
        write_file(path, data, mode=0o600)
        return
    draft = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False) as out:
            draft = Path(out.name)
            out.write(data)
        draft.replace(path)
    except BaseException:
        if draft is not None:
            draft.unlink(missing_ok=True)
        raise


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises OSError, also for a pipe or a device, where reading might never end."""
    with open_regular(path) as file:
        return file.read()
