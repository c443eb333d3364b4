"""What an account has, as the server describes it: jobs, models, files. Every request here only reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from tuneport.errors import BackendError, ConfigError, JobNotFound, NotFoundError, TuneportError
from tuneport_openai.catalogue import table
from tuneport_openai.wire.pages import Pages
from tuneport_openai.wire.words import count_of, numbers, time_of

if TYPE_CHECKING:
    from tuneport_openai.wire.client import Wire

METHODS = {"supervised": "sft", "dpo": "dpo", "reinforcement": "reinforcement"}
_MOST_JOBS, _MOST_FILES, _MOST_CHECKPOINTS = 100_000, 200_000, 1_000
_PAGE = 100
_TOGETHER = 8

Progress = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class OldFile:
    """A file of a job. `there` is whether the server still lists it; None where it shows no list of files."""

    id: str
    name: str | None = None
    bytes: int | None = None
    there: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OldCheckpoint:
    """A checkpoint that the server keeps. `metrics` are those of its step."""

    model: str
    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class OldJob:
    """A job of the account. `hyperparameters` are the server's words: numbers that it used, or `auto` before it chose.

    `usd` is the estimated cost of training: trained tokens at the price of today's table. `listed` is whether the
    tuned model is still on the server's list of models; `ends` the day on which the vendor shuts it down. `None` is
    unknown, in any field. `checkpoints` are None where they were not asked for or could not be read.
    """

    id: str
    status: str
    base: str
    method: str
    created: datetime | None = None
    finished: datetime | None = None
    suffix: str | None = None
    seed: int | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    trained_tokens: int | None = None
    usd: float | None = None
    model: str | None = None
    listed: bool | None = None
    ends: date | None = None
    training_file: OldFile | None = None
    validation_file: OldFile | None = None
    result_files: tuple[OldFile, ...] = ()
    checkpoints: tuple[OldCheckpoint, ...] | None = None
    error: str | None = None
    organization: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The figures of the last checkpoint."""
        return self.checkpoints[-1].metrics if self.checkpoints else {}

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, without the server's own object."""
        return {
            "id": self.id,
            "status": self.status,
            "base": self.base,
            "method": self.method,
            "created": self.created.isoformat() if self.created else None,
            "finished": self.finished.isoformat() if self.finished else None,
            "suffix": self.suffix,
            "seed": self.seed,
            "hyperparameters": dict(self.hyperparameters),
            "trained_tokens": self.trained_tokens,
            "usd": self.usd,
            "model": self.model,
            "listed": self.listed,
            "ends": self.ends.isoformat() if self.ends else None,
            "training_file": _file_dict(self.training_file),
            "validation_file": _file_dict(self.validation_file),
            "result_files": [_file_dict(one) for one in self.result_files],
            "checkpoints": None
            if self.checkpoints is None
            else [{"model": one.model, "step": one.step, "metrics": dict(one.metrics)} for one in self.checkpoints],
            "metrics": dict(self.metrics),
            "error": self.error,
            "organization": self.organization,
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All jobs of an account, newest first, and what could not be read."""

    profile: str
    address: str
    jobs: tuple[OldJob, ...]
    notes: tuple[str, ...] = ()


def read_account(wire: Wire, *, tell: Progress = lambda _: None) -> Account:
    """Every job with its files, checkpoints and model. What cannot be listed is a note, except the jobs themselves.

    Raises UnavailableError, UsageError or BackendError where the jobs cannot be listed.
    """
    notes: list[str] = []
    name = wire.profile.name
    jobs: list[OldJob] = []
    with wire.speaking("listing jobs"):
        pages = Pages(
            wire.patient.fine_tuning.jobs.list(limit=_PAGE), most_pages=_MOST_JOBS // _PAGE, most_items=_MOST_JOBS
        )
        for page in pages.pages():
            jobs += [found for one in page if (found := _job(wire, one.to_dict(mode="json", warnings=False)))]
            tell(f"Reading the jobs of {name}: {len(jobs):,}")
    if not pages.is_whole:
        notes.append(f"The list of jobs did not come to its end: {len(jobs):,} were read.")
    models = _listed_models(wire, notes)
    files = _listed_files(wire, notes)
    jobs = [_with_list(one, models, files) for one in jobs]
    return Account(
        profile=name,
        address=wire.profile.base_url,
        jobs=tuple(_with_checkpoints(wire, jobs, notes, tell)),
        notes=tuple(notes),
    )


def read_job(wire: Wire, job_id: str, notes: list[str] | None = None) -> OldJob:
    """One job with its files, checkpoints and model; `notes` gets what could not be read.

    Raises JobNotFound where the server does not show it.
    """
    try:
        with wire.speaking("asking for the job", JobNotFound):
            raw = wire.patient.fine_tuning.jobs.retrieve(job_id).to_dict(mode="json", warnings=False)
    except JobNotFound as error:
        see = f"See which jobs are there: tuneport move {wire.profile.name}"
        raise JobNotFound(error.message, remedy=see) from error
    found = _job(wire, raw)
    if found is None or found.id != job_id:
        raise BackendError(
            f"{wire.profile.name} answered with another job than {job_id}.", remedy="Try again in a while."
        )
    notes = [] if notes is None else notes
    models = _listed_models(wire, notes)
    files = {one.id: _one_file(wire, one) for one in _files_of(found)}
    return next(iter(_with_checkpoints(wire, [_with_list(found, models, files)], notes, lambda _: None)))


def _job(wire: Wire, raw: Mapping[str, Any]) -> OldJob | None:
    """A job as the server describes it; None for what has no id."""
    job_id, base = raw.get("id"), _text(raw.get("model")) or ""
    if not isinstance(job_id, str) or not job_id:
        return None
    method = raw.get("method")
    kind = (_text(method.get("type")) if isinstance(method, Mapping) else None) or "supervised"
    known = table.known(wire.profile, base) if base else None
    tokens = count_of(raw.get("trained_tokens"))
    price = known.training if known is not None else None
    error = raw.get("error")
    metadata = raw.get("metadata")
    result_files = raw.get("result_files")
    return OldJob(
        id=job_id,
        status=_text(raw.get("status")) or "unknown",
        base=base,
        method=kind,
        created=time_of(raw.get("created_at")),
        finished=time_of(raw.get("finished_at")),
        suffix=_text(raw.get("user_provided_suffix")) or _text(raw.get("suffix")) or _suffix(raw),
        seed=count_of(raw.get("seed")),
        hyperparameters=_hyperparameters(raw, kind),
        trained_tokens=tokens,
        usd=round(tokens * price / 1e6, 2) if tokens is not None and price is not None else None,
        model=_text(raw.get("fine_tuned_model")),
        ends=known.ends if known is not None else None,
        training_file=_file(raw.get("training_file")),
        validation_file=_file(raw.get("validation_file")),
        result_files=tuple(filter(None, map(_file, result_files if isinstance(result_files, list) else ()))),
        error=_text(error.get("message")) if isinstance(error, Mapping) else _text(error),
        organization=_text(raw.get("organization_id")),
        metadata={str(key): str(one) for key, one in metadata.items()} if isinstance(metadata, Mapping) else {},
        raw=raw,
    )


def _suffix(raw: Mapping[str, Any]) -> str | None:
    """The suffix in the name of a tuned model, `ft:BASE:ORGANIZATION:SUFFIX:ID`: the job does not always say it."""
    parts = (_text(raw.get("fine_tuned_model")) or "").split(":")
    return parts[3] or None if len(parts) == 5 and parts[0] == "ft" else None


def _hyperparameters(raw: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Those of the method; the older field next to it where the method has none."""
    method = raw.get("method")
    chosen = method.get(kind) if isinstance(method, Mapping) else None
    for place in (chosen, raw):
        found = place.get("hyperparameters") if isinstance(place, Mapping) else None
        if isinstance(found, Mapping) and found:
            return {str(key): one for key, one in found.items() if isinstance(one, str | int | float)}
    return {}


def _listed_models(wire: Wire, notes: list[str]) -> frozenset[str] | None:
    def read() -> frozenset[str]:
        with wire.speaking("listing models"):
            return frozenset(str(one.id) for one in Pages(wire.patient.models.list(), most_items=_MOST_JOBS))

    return _or_note(read, "The models", notes)


def _listed_files(wire: Wire, notes: list[str]) -> dict[str, OldFile] | None:
    def read() -> dict[str, OldFile]:
        with wire.speaking("listing files"):
            first = wire.patient.files.list(limit=10_000 if wire.profile.vendor == "openai" else _PAGE)
            pages = Pages(first, most_pages=_MOST_FILES // _PAGE, most_items=_MOST_FILES)
            found = {str(one.id): _described(one.to_dict(mode="json", warnings=False)) for one in pages}
        pages.require_whole("files")
        return found

    return _or_note(read, "The files", notes)


def _or_note(read: Callable[[], T], what: str, notes: list[str]) -> T | None:
    """What was read. Where the account may not read it, a note: the rest of the inventory is worth having."""
    try:
        return read()
    except ConfigError:
        raise
    except TuneportError as error:
        notes.append(f"{what} could not be listed: {error.message}")
        return None


def _with_list(job: OldJob, models: frozenset[str] | None, files: Mapping[str, OldFile] | None) -> OldJob:
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


def _with_checkpoints(wire: Wire, jobs: Sequence[OldJob], notes: list[str], tell: Progress) -> Iterable[OldJob]:
    """Each job with its checkpoints, several asked for at once."""
    unread = 0
    with ThreadPoolExecutor(max_workers=_TOGETHER) as pool:
        asked = [pool.submit(_checkpoints, wire, one) for one in jobs]
        found = []
        try:
            for number, (job, future) in enumerate(zip(jobs, asked, strict=True), 1):
                checkpoints = future.result()
                unread += checkpoints is None and job.status == "succeeded"
                found.append(replace(job, checkpoints=checkpoints))
                if not number % _PAGE:
                    tell(f"Reading the checkpoints of {wire.profile.name}: {number:,} of {len(jobs):,} jobs")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if unread:
        notes.append(f"The checkpoints of {unread:,} jobs could not be read.")
    return found


def _checkpoints(wire: Wire, job: OldJob) -> tuple[OldCheckpoint, ...] | None:
    """A finished job's checkpoints, in order; None where the server does not show them."""
    if job.status != "succeeded":
        return ()
    try:
        with wire.speaking("listing checkpoints"):
            first = wire.patient.fine_tuning.jobs.checkpoints.list(job.id, limit=_PAGE)
            raw = [one.to_dict(mode="json", warnings=False) for one in Pages(first, most_items=_MOST_CHECKPOINTS)]
    except NotFoundError:
        return ()  # not every server keeps them
    except TuneportError:
        return None
    found = []
    for one in raw:
        model, step, metrics = _text(one.get("fine_tuned_model_checkpoint")), one.get("step_number"), one.get("metrics")
        if model and count_of(step) is not None:
            known = numbers(metrics) if isinstance(metrics, Mapping) else {}
            found.append(OldCheckpoint(model=model, step=int(step), metrics=known))
    return tuple(sorted(found, key=lambda one: one.step))


def _one_file(wire: Wire, file: OldFile) -> OldFile:
    """A file as the server describes it now."""
    try:
        with wire.speaking("asking for a file"):
            return _described(wire.patient.files.retrieve(file.id).to_dict(mode="json", warnings=False), file.id)
    except NotFoundError:
        return replace(file, there=False)
    except ConfigError:
        raise
    except TuneportError:
        return file


def _files_of(job: OldJob) -> list[OldFile]:
    return [one for one in (job.training_file, job.validation_file, *job.result_files) if one is not None]


def _file(value: object) -> OldFile | None:
    name = _text(value)
    return OldFile(id=name) if name else None


def _described(raw: Mapping[str, Any], file_id: str | None = None) -> OldFile:
    gone = raw.get("status") == "deleted" or raw.get("deleted") is True
    return OldFile(
        id=file_id or str(raw.get("id") or ""),
        name=_text(raw.get("filename")),
        bytes=count_of(raw.get("bytes")) or None,
        there=not gone,
    )


def _file_dict(one: OldFile | None) -> dict[str, Any] | None:
    return None if one is None else {"id": one.id, "name": one.name, "bytes": one.bytes, "there": one.there}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
