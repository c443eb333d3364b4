"""What an account has: jobs, models, files. Every request here only reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from tuneport.errors import BackendError, ConfigError, JobNotFound, NotFoundError, TuneportError
from tuneport_openai.move.old_job import OldCheckpoint, OldFile, OldJob, parse_job, read_file, text_of
from tuneport_openai.wire.pages import Pages
from tuneport_openai.wire.words import count_of, numbers

if TYPE_CHECKING:
    from tuneport_openai.wire.client import Wire

_MOST_JOBS, _MOST_FILES, _MOST_CHECKPOINTS = 100_000, 200_000, 1_000
_PAGE = 100
_AT_ONCE = 8

Progress = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All jobs of an account, newest first, and what could not be read."""

    profile: str
    address: str
    jobs: tuple[OldJob, ...]
    notes: tuple[str, ...] = ()


def read_account(wire: Wire, *, on_progress: Progress = lambda _: None) -> Account:
    """Every job with its files, checkpoints and model. What else cannot be listed becomes a note.

    Raises UnavailableError, UsageError or BackendError where the jobs cannot be listed.
    """
    notes: list[str] = []
    name = wire.profile.name
    jobs: list[OldJob] = []
    with wire.translate_errors("listing jobs"):
        pages = Pages(
            wire.patient.fine_tuning.jobs.list(limit=_PAGE), most_pages=_MOST_JOBS // _PAGE, most_items=_MOST_JOBS
        )
        for page in pages.pages():
            jobs += [
                found for one in page if (found := parse_job(wire.profile, one.to_dict(mode="json", warnings=False)))
            ]
            on_progress(f"Reading the jobs of {name}: {len(jobs):,}")
    if not pages.is_complete:
        notes.append(f"The list of jobs did not end: {len(jobs):,} were read.")
    models = _list_models(wire, notes)
    files = _list_files(wire, notes)
    jobs = [_mark_listed(one, models, files) for one in jobs]
    return Account(
        profile=name,
        address=wire.profile.base_url,
        jobs=tuple(_add_checkpoints(wire, jobs, notes, on_progress)),
        notes=tuple(notes),
    )


def read_job(wire: Wire, job_id: str, notes: list[str] | None = None) -> OldJob:
    """One job with its files, checkpoints and model; `notes` gets what could not be read.

    Raises JobNotFound where the server does not show it.
    """
    try:
        with wire.translate_errors("asking for the job", JobNotFound):
            raw = wire.patient.fine_tuning.jobs.retrieve(job_id).to_dict(mode="json", warnings=False)
    except JobNotFound as error:
        see = f"List the jobs: tuneport move {wire.profile.name}"
        raise JobNotFound(error.message, remedy=see) from error
    found = parse_job(wire.profile, raw)
    if found is None or found.id != job_id:
        raise BackendError(
            f"{wire.profile.name} answered with another job than {job_id}.", remedy="Try again in a while."
        )
    notes = [] if notes is None else notes
    models = _list_models(wire, notes)
    files = {one.id: _look_up_file(wire, one) for one in found.files}
    return next(iter(_add_checkpoints(wire, [_mark_listed(found, models, files)], notes, lambda _: None)))


def _list_models(wire: Wire, notes: list[str]) -> frozenset[str] | None:
    def read() -> frozenset[str]:
        with wire.translate_errors("listing models"):
            return frozenset(str(one.id) for one in Pages(wire.patient.models.list(), most_items=_MOST_JOBS))

    return _try_listing(read, "The models", notes)


def _list_files(wire: Wire, notes: list[str]) -> dict[str, OldFile] | None:
    def read() -> dict[str, OldFile]:
        with wire.translate_errors("listing files"):
            first = wire.patient.files.list(limit=10_000 if wire.profile.vendor == "openai" else _PAGE)
            pages = Pages(first, most_pages=_MOST_FILES // _PAGE, most_items=_MOST_FILES)
            found = {str(one.id): read_file(one.to_dict(mode="json", warnings=False)) for one in pages}
        pages.require_complete("files")
        return found

    return _try_listing(read, "The files", notes)


def _try_listing(read: Callable[[], T], what: str, notes: list[str]) -> T | None:
    """What was read, or None and a note where the account may not read it: the rest is still useful."""
    try:
        return read()
    except ConfigError:
        raise
    except TuneportError as error:
        notes.append(f"{what} could not be listed: {error.message}")
        return None


def _mark_listed(job: OldJob, models: frozenset[str] | None, files: Mapping[str, OldFile] | None) -> OldJob:
    def seen(one: OldFile | None) -> OldFile | None:
        if one is None or files is None:
            return one
        return files.get(one.id, replace(one, there=False))

    return replace(
        job,
        listed=None if models is None or job.model is None else job.model in models,
        training_file=seen(job.training_file),
        validation_file=seen(job.validation_file),
        result_files=tuple(filter(None, map(seen, job.result_files))),
    )


def _add_checkpoints(wire: Wire, jobs: Sequence[OldJob], notes: list[str], on_progress: Progress) -> Iterable[OldJob]:
    """Each job with its checkpoints, several requests at once."""
    unread = 0
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        asked = [pool.submit(_read_checkpoints, wire, one) for one in jobs]
        found = []
        try:
            for number, (job, future) in enumerate(zip(jobs, asked, strict=True), 1):
                checkpoints = future.result()
                unread += checkpoints is None and job.status == "succeeded"
                found.append(replace(job, checkpoints=checkpoints))
                if not number % _PAGE:
                    on_progress(f"Reading the checkpoints of {wire.profile.name}: {number:,} of {len(jobs):,} jobs")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if unread:
        notes.append(f"The checkpoints of {unread:,} jobs could not be read.")
    return found


def _read_checkpoints(wire: Wire, job: OldJob) -> tuple[OldCheckpoint, ...] | None:
    """A finished job's checkpoints, in order; None where the server does not show them."""
    if job.status != "succeeded":
        return ()
    try:
        with wire.translate_errors("listing checkpoints"):
            first = wire.patient.fine_tuning.jobs.checkpoints.list(job.id, limit=_PAGE)
            raw = [one.to_dict(mode="json", warnings=False) for one in Pages(first, most_items=_MOST_CHECKPOINTS)]
    except NotFoundError:
        return ()  # not every server keeps them
    except TuneportError:
        return None
    found = []
    for one in raw:
        model, step, metrics = (
            text_of(one.get("fine_tuned_model_checkpoint")),
            one.get("step_number"),
            one.get("metrics"),
        )
        if model and count_of(step) is not None:
            known = numbers(metrics) if isinstance(metrics, Mapping) else {}
            found.append(OldCheckpoint(model=model, step=int(step), metrics=known))
    return tuple(sorted(found, key=lambda one: one.step))


def _look_up_file(wire: Wire, file: OldFile) -> OldFile:
    """The file as the server describes it now."""
    try:
        with wire.translate_errors("asking for a file"):
            return read_file(wire.patient.files.retrieve(file.id).to_dict(mode="json", warnings=False), file.id)
    except NotFoundError:
        return replace(file, there=False)
    except ConfigError:
        raise
    except TuneportError:
        return file
