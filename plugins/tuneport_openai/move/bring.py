"""A job brought home: its files, its events and everything known of it, in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.errors import BackendError, NotFoundError, TuneportError, UsageError
from tuneport.plugin import Dataset, Event, Lineage, utc_now
from tuneport_openai.events import event_of, read_events, row_events
from tuneport_openai.move.download import copy_in, download, is_refused
from tuneport_openai.move.folder import (
    CHECK,
    EVENTS,
    LINEAGE,
    OLD,
    TRAINING,
    VALIDATION,
    JobFolder,
    Record,
    claim_folder,
    write_json,
    write_lines,
)
from tuneport_openai.move.old_job import METHODS
from tuneport_openai.results import read_results

if TYPE_CHECKING:
    from datetime import datetime

    from tuneport_openai.move.old_job import OldFile, OldJob
    from tuneport_openai.wire.client import Wire

Progress = Callable[[str, int, int | None], None]


def bring(
    wire: Wire,
    job: OldJob,
    folder: Path,
    *,
    training_file: Path | None = None,
    validation_file: Path | None = None,
    on_progress: Progress = lambda *_: None,
) -> JobFolder:
    """Bring a job home into `folder`, and continue where an earlier call ended.

    A local copy replaces a file that the server no longer has. A file that nobody has is listed in `gone`. Files that
    are already here stay as they are. Raises UsageError where the folder is not this job's or cannot be written, and
    the errors for the server's refusals.
    """
    record = claim_folder(folder, wire, job)
    gone: list[str] = []
    notes: list[str] = []
    parts: dict[str, Path | None] = {}
    for part, file, name, copy in (
        ("training", job.training_file, TRAINING, training_file),
        ("validation", job.validation_file, VALIDATION, validation_file),
    ):
        parts[part] = _part(wire, record, part, file, folder / name, copy, gone, on_progress)
    rows = _results(wire, record, job, folder / OLD, gone, on_progress)
    _write_events(wire, job, folder / OLD, rows, notes)
    record.save()
    return JobFolder(
        folder=folder,
        job=job,
        training=parts["training"],
        validation=parts["validation"],
        gone=tuple(gone),
        notes=tuple(notes),
    )


def check_rows(local: JobFolder, held_out: Sequence[Path] = ()) -> Any:
    """What `check` finds in the training rows, compared with those held out; also kept as `old/check.json`. None where
    there are no rows.
    """
    if local.training is None:
        return None
    found = Dataset.load(local.training).check(against=[Dataset.load(one) for one in held_out])
    write_json(local.old / CHECK, found.to_dict())
    return found


def write_lineage(local: JobFolder, profile: str, fingerprint: str) -> None:
    """Write where the old model comes from as `old/lineage.json`, in the form of any tuned model's lineage."""
    job = local.job
    ended = job.finished or job.created
    lineage = Lineage(
        base=f"{profile}:{job.base}",
        job=f"{profile}:{job.id}",
        data_fingerprint=fingerprint,
        created=ended.isoformat() if ended is not None else "",
        method=METHODS.get(job.method, job.method),
        settings={**job.hyperparameters, "seed": job.seed, "suffix": job.suffix},
    )
    write_json(local.old / LINEAGE, lineage.to_dict())


def _part(
    wire: Wire,
    record: Record,
    part: str,
    file: OldFile | None,
    target: Path,
    copy: Path | None,
    gone: list[str],
    on_progress: Progress,
) -> Path | None:
    """The training or validation file; None where it cannot be had."""
    file_id = file.id if file is not None else None
    if target.is_file():  # from an earlier call, and perhaps edited since
        if copy is not None and record.files.get(part, {}).get("from") != str(copy):
            raise UsageError(
                f"{target} already exists, so --{part}-file {copy} would change nothing.",
                remedy=f"To replace it with the copy, remove {target} first.",
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
            on_progress=lambda here, total: on_progress(target.name, here, total),
        )
    except TuneportError as error:
        if not is_refused(error):
            raise
        option = f"--{part}-file"
        gone.append(f"{_why_gone(wire, part, file, error)} If you have a copy, add {option} FILE.")
        return None
    return target


def _why_gone(wire: Wire, part: str, file: OldFile, error: TuneportError) -> str:
    if isinstance(error, NotFoundError):
        return f"{wire.profile.name} no longer has the {part} file {file.id}."
    return f"The {part} file {file.id} is not available: {error.message.rstrip('.')}."


def _results(
    wire: Wire, record: Record, job: OldJob, folder: Path, gone: list[str], on_progress: Progress
) -> list[dict[str, Any]]:
    """The rows of the result files, each kept as it is."""
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
                    on_progress=partial(on_progress, target.name),
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
    """Write the server's events and the result file's metrics as events of ours, oldest first."""
    try:
        found = [event_of(one) for one in read_events(wire, job.id)]
    except TuneportError as error:
        if not (isinstance(error, BackendError) or is_refused(error)):
            raise
        notes.append(f"The events could not be read: {error.message}")
        found = []
    known = {event.data.get("step") for event in found if event.kind == "metric"}
    found = [*found, *row_events(rows, known, _end_of(job, found))]
    found.sort(key=lambda event: event.time)
    numbered = ({**event.to_dict(), "seq": number} for number, event in enumerate(found, 1))
    write_lines(folder / EVENTS, (json.dumps(one, ensure_ascii=True) for one in numbered))


def _end_of(job: OldJob, events: list[Event]) -> datetime:
    return job.finished or (events[-1].time if events else None) or job.created or utc_now()
