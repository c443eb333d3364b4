"""A job brought home: its files, its events and all that is known of it, in a folder of its own."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport import __version__ as version
from tuneport.errors import BackendError, NotFoundError, TuneportError, UsageError
from tuneport.plugin import Dataset, Event, Lineage, utc_now
from tuneport_openai.events import event_of, newer, row_events
from tuneport_openai.move.account import METHODS
from tuneport_openai.move.download import Downloaded, cannot_write, copy_in, download, is_refused
from tuneport_openai.results import read_results

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from tuneport_openai.move.account import OldFile, OldJob
    from tuneport_openai.wire.client import Wire

OLD = "old"
"""The folder in the job's folder that has what is known of the old model: a record, as `compare` reads it."""
RECORD, EVENTS, CHECK, LINEAGE = "record.json", "events.jsonl", "check.json", "lineage.json"
_LOCK = ".lock"
TRAINING, VALIDATION, REST = "train.jsonl", "validation.jsonl", "validation-rest.jsonl"

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A job that is here. `training` and `validation` are None where there is none, or it could not be had: `gone` says
    of which and why.
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


def bring(
    wire: Wire,
    job: OldJob,
    folder: Path,
    *,
    training_file: Path | None = None,
    validation_file: Path | None = None,
    tell: Progress = lambda *_: None,
) -> Brought:
    """Bring a job home into `folder`, and go on where an earlier call was ended.

    A local copy takes the place of a file that the server has no more. What the server no longer has, and nobody has a
    copy of, is told in `gone`. Files that are here already are kept as they are. Raises UsageError where the folder is
    something else's or cannot be written, and what the server's refusals become.
    """
    record = _claimed(folder, wire, job)
    gone: list[str] = []
    notes: list[str] = []
    parts: dict[str, Path | None] = {}
    for part, file, name, copy in (
        ("training", job.training_file, TRAINING, training_file),
        ("validation", job.validation_file, VALIDATION, validation_file),
    ):
        parts[part] = _part(wire, record, part, file, folder / name, copy, gone, tell)
    rows = _results(wire, record, job, folder / OLD, gone, tell)
    _write_events(wire, job, folder / OLD, rows, notes)
    record.save()
    return Brought(
        folder=folder,
        job=job,
        training=parts["training"],
        validation=parts["validation"],
        gone=tuple(gone),
        notes=tuple(notes),
    )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The folder made, and this process the only one that moves a job into it. Raises UsageError where another one
    does, or it is something else's.
    """
    try:
        if not (folder / OLD / RECORD).is_file() and not _is_free(folder):
            raise _not_ours(folder)
        (folder / OLD).mkdir(parents=True, exist_ok=True)
        lock = (folder / OLD / _LOCK).open("wb")
    except OSError as error:
        raise cannot_write(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"Another process is moving a job into {folder}.", remedy="Wait until it is done, then run this again."
            ) from None
        except OSError as error:
            raise cannot_write(folder, error) from error
        yield


def check_rows(brought: Brought, held_out: Sequence[Path] = ()) -> Any:
    """What `check` finds in the training rows, beside those held out; also kept as `old/check.json`. None where there
    are no rows.
    """
    if brought.training is None:
        return None
    found = Dataset.load(brought.training).check(against=[Dataset.load(one) for one in held_out])
    write_json(brought.old / CHECK, found.to_dict())
    return found


def write_lineage(brought: Brought, profile: str, fingerprint: str) -> None:
    """Where the old model comes from, as `old/lineage.json`: in the words of any tuned model's lineage."""
    job = brought.job
    ended = job.finished or job.created
    lineage = Lineage(
        base=f"{profile}:{job.base}",
        job=f"{profile}:{job.id}",
        data_fingerprint=fingerprint,
        created=ended.isoformat() if ended is not None else "",
        method=METHODS.get(job.method, job.method),
        settings={**job.hyperparameters, "seed": job.seed, "suffix": job.suffix},
    )
    write_json(brought.old / LINEAGE, lineage.to_dict())


class _Record:
    """`old/record.json`: where the job was, what the server said of it, and which bytes came from there."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self._path = path
        self._about = about

    @property
    def files(self) -> dict[str, Any]:
        found: dict[str, Any] = self._about["files"]
        return found

    def keep(self, part: str, file_id: str | None, done: Downloaded, source: str) -> None:
        """Remember a file that is complete, at once: it is not fetched again."""
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
    """Whether nothing is there but what a call that was killed at its beginning has left."""
    if not folder.exists():
        return True
    return folder.is_dir() and all(
        one.name == OLD and one.is_dir() and all(inner.name.startswith(".") for inner in one.iterdir())
        for one in folder.iterdir()
    )


def _items(value: object) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _not_ours(folder: Path) -> UsageError:
    return UsageError(f"{folder} is there already and is not a job's.", remedy="Name a new folder with -o.")


def _claimed(folder: Path, wire: Wire, job: OldJob) -> _Record:
    """The record of the folder, this job's own. Raises UsageError where the folder is something else's."""
    path = folder / OLD / RECORD
    files: Any = {}
    try:
        kept = json.loads(path.read_bytes()) if path.is_file() else None
        is_free = kept is not None or _is_free(folder)
        if is_free:
            (folder / OLD).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is damaged: {error}.", remedy="Remove it; the same command makes it again."
        ) from error
    if not is_free:
        raise _not_ours(folder)
    if kept is not None:
        if not isinstance(kept, dict) or kept.get("job") != job.id or kept.get("profile") != wire.profile.name:
            whose = f"{kept.get('profile')} {kept.get('job')}" if isinstance(kept, dict) else "unknown"
            raise UsageError(
                f"{folder} holds the job {whose}, not {wire.profile.name} {job.id}.",
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
    record = _Record(path, about)
    record.save()
    return record


def _part(
    wire: Wire,
    record: _Record,
    part: str,
    file: OldFile | None,
    target: Path,
    copy: Path | None,
    gone: list[str],
    tell: Progress,
) -> Path | None:
    """The training or validation file; None where it cannot be had."""
    file_id = file.id if file is not None else None
    if target.is_file():  # of an earlier call, and perhaps edited since
        if copy is not None and record.files.get(part, {}).get("from") != str(copy):
            raise UsageError(
                f"{target} is there already, so --{part}-file {copy} would change nothing.",
                remedy=f"Remove {target} first to have the copy in its place.",
            )
        return target
    if copy is not None:
        copy_in(copy, target, lambda done: record.keep(part, file_id, done, str(copy)))
        return target
    if file is None:
        return None
    try:
        download(
            wire,
            file,
            target,
            lambda done: record.keep(part, file_id, done, wire.profile.name),
            tell=lambda here, total: tell(target.name, here, total),
        )
    except TuneportError as error:
        if not is_refused(error):
            raise
        option = f"--{part}-file"
        gone.append(f"{_why_gone(wire, part, file, error)} Name a copy of yours with {option} FILE.")
        return None
    return target


def _why_gone(wire: Wire, part: str, file: OldFile, error: TuneportError) -> str:
    if isinstance(error, NotFoundError):
        return f"{wire.profile.name} no longer has the {part} file {file.id}."
    return f"The {part} file {file.id} is not handed out: {error.message.rstrip('.')}."


def _results(
    wire: Wire, record: _Record, job: OldJob, folder: Path, gone: list[str], tell: Progress
) -> list[dict[str, Any]]:
    """The rows of the result files, each kept as it came."""
    rows: list[dict[str, Any]] = []
    for number, file in enumerate(job.result_files, 1):
        target = folder / (f"results-{number}.csv" if number > 1 else "results.csv")
        if not target.is_file():
            part = f"results {number}"
            try:
                download(
                    wire,
                    file,
                    target,
                    partial(record.keep, part, file.id, source=wire.profile.name),
                    exact=False,
                    tell=partial(tell, target.name),
                )
            except TuneportError as error:
                if not is_refused(error):
                    raise
                gone.append(_why_gone(wire, "result", file, error))
                continue
        with target.open("rb") as content:
            rows += read_results(content)
    return rows


def _write_events(wire: Wire, job: OldJob, folder: Path, rows: list[dict[str, Any]], notes: list[str]) -> None:
    """The server's events and the result file's figures as events of ours, oldest first."""
    try:
        found = [event_of(one) for one in newer(wire, job.id)]
    except TuneportError as error:
        if not (isinstance(error, BackendError) or is_refused(error)):
            raise
        notes.append(f"The events could not be read: {error.message}")
        found = []
    told = {event.data.get("step") for event in found if event.kind == "metric"}
    found = [*found, *row_events(rows, told, _end_of(job, found))]
    found.sort(key=lambda event: event.time)
    told_lines = ({**event.to_dict(), "seq": number} for number, event in enumerate(found, 1))
    write_lines(folder / EVENTS, (json.dumps(one, ensure_ascii=True) for one in told_lines))


def _end_of(job: OldJob, events: list[Event]) -> datetime:
    return job.finished or (events[-1].time if events else None) or job.created or utc_now()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object as a file, complete or not at all. Raises UsageError where it cannot be written."""
    write_lines(path, [json.dumps(value, indent=1, ensure_ascii=True)])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file of lines, complete or not at all. Raises UsageError where it cannot be written."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as out:
            out.writelines(f"{line}\n" for line in lines)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise cannot_write(path, error) from error
