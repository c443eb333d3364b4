"""The folder of a moved job: who may write to it, and its record of what came from where."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport import __version__ as version
from tuneport.errors import UsageError
from tuneport.plugin import lock_file, utc_now, write_file
from tuneport_openai.move.download import Downloaded, write_error

if TYPE_CHECKING:
    from tuneport_openai.move.old_job import OldJob
    from tuneport_openai.wire.client import Wire

OLD = "old"
"""The folder in the job's folder that has what is known of the old model: a record, as `compare` reads it."""
RECORD, EVENTS, CHECK, LINEAGE = "record.json", "events.jsonl", "check.json", "lineage.json"
_LOCK = ".lock"
TRAINING, VALIDATION, REST = "train.jsonl", "validation.jsonl", "validation-rest.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFolder:
    """A job that is here. `training` and `validation` are None where there is none, or where it is not available;
    `gone` says which and why.
    """

    folder: Path
    job: OldJob
    training: Path | None
    validation: Path | None
    gone: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def old(self) -> Path:
        """The record of the old model."""
        return self.folder / OLD


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Create the folder, and let no other process move a job into it meanwhile. Raises UsageError where another one
    does, or where the folder is not a job's.
    """
    try:
        if not (folder / OLD / RECORD).is_file() and not _is_free(folder):
            raise _foreign_folder_error(folder)
        (folder / OLD).mkdir(parents=True, exist_ok=True)
        lock = lock_file(folder / OLD / _LOCK, wait=False)
        lock.__enter__()
    except BlockingIOError:
        raise UsageError(
            f"Another process is moving a job into {folder}.", remedy="Wait until it is done, then run this again."
        ) from None
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


class Record:
    """`old/record.json`: where the job was, how the server describes it, and which bytes came from there."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self._path = path
        self._about = about

    @property
    def files(self) -> dict[str, Any]:
        found: dict[str, Any] = self._about["files"]
        return found

    def keep(self, part: str, file_id: str | None, done: Downloaded, source: str) -> None:
        """Record a complete file at once, so that it is not downloaded again."""
        self.files[part] = {
            "id": file_id,
            "name": str(done.path.name),
            "bytes": done.bytes,
            "sha256": done.sha256,
            "from": source,
        }
        self.save()

    def save(self) -> None:
        write_json(self._path, self._about)


def _is_free(folder: Path) -> bool:
    """Whether the folder has nothing but what a call that was killed at its start has left."""
    if not folder.exists():
        return True
    return folder.is_dir() and all(
        one.name == OLD and one.is_dir() and all(inner.name.startswith(".") for inner in one.iterdir())
        for one in folder.iterdir()
    )


def _items(value: object) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _foreign_folder_error(folder: Path) -> UsageError:
    return UsageError(f"{folder} already exists and is not the folder of a job.", remedy="Name a new folder with -o.")


def claim_folder(folder: Path, wire: Wire, job: OldJob) -> Record:
    """The record of this job's folder. Raises UsageError where the folder has something else."""
    path = folder / OLD / RECORD
    files: Any = {}
    try:
        kept = json.loads(path.read_bytes()) if path.is_file() else None
        is_free = kept is not None or _is_free(folder)
        if is_free:
            (folder / OLD).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is damaged: {error}.", remedy="Remove it; the same command writes it again."
        ) from error
    if not is_free:
        raise _foreign_folder_error(folder)
    if kept is not None:
        if not isinstance(kept, dict) or kept.get("job") != job.id or kept.get("profile") != wire.profile.name:
            whose = f"{kept.get('profile')} {kept.get('job')}" if isinstance(kept, dict) else "unknown"
            raise UsageError(
                f"{folder} has the job {whose}, not {wire.profile.name} {job.id}.",
                remedy="Name another folder with -o.",
            )
        files = {key: one for key, one in _items(kept.get("files")) if isinstance(one, dict)}
    about = {
        "version": 1,
        "model": f"{wire.profile.name}:{job.model or job.id}",
        "profile": wire.profile.name,
        "address": wire.profile.base_url,
        "job": job.id,
        "base": job.base,
        "method": job.method,
        "moved": utc_now().isoformat(),
        "tuneport": version,
        "files": files,
        "described": job.to_dict(),
        "server": dict(job.raw),
    }
    record = Record(path, about)
    record.save()
    return record


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object as a complete file. Raises UsageError where it cannot be written."""
    write_lines(path, [json.dumps(value, indent=1, ensure_ascii=True)])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a complete file of lines. Raises UsageError where it cannot be written."""
    try:
        write_file(path, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise write_error(path, error) from error
