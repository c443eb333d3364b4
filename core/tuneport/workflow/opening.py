"""Jobs and models opened again by their refs, and deleted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.contract.events import Status
from tuneport.contract.state import Removal
from tuneport.doors import public
from tuneport.errors import BackendNotFound, JobNotFinished, JobNotFound, ModelNotFound, NotFoundError, UsageError
from tuneport.homefolder import home
from tuneport.ledger import Ledger
from tuneport.loader import load
from tuneport.notebook import attach
from tuneport.refs import Ref
from tuneport.workflow import trained_rows
from tuneport.workflow.naming import base_refs, find_ref, job_refs, suggestion

if TYPE_CHECKING:
    from tuneport.contract.backend import Backend
    from tuneport.contract.job import Job
    from tuneport.contract.model import Model
    from tuneport.contract.state import JobState
    from tuneport.ledger import JobRecord


@public()
def open_backend(name: str) -> Backend:
    """The backend of that name, with its capabilities, settings and bases. Raises BackendNotFound."""
    return load().backend(name)


@public()
def open_job(ref: str | Ref) -> Job:
    """The job of that ref, from any process. A job's name, the beginning of one, and `last` work as well.

    Raises RefError where nothing or more than one job fits, JobNotFound, which says why where a start was refused, or
    BackendNotFound when its plugin is missing.
    """
    ref = find_ref(ref)
    try:
        backend = load().backend(ref.backend)
        return attach(backend, backend.job(ref.name))
    except JobNotFound as error:
        reason = _why_never_started(ref)
        if not reason and ref in base_refs():
            raise JobNotFound(
                f"{ref} is a base model, not a job.",
                remedy=f"`tuneport jobs` lists the jobs. Ask it: tuneport ask {ref} TEXT",
            ) from error
        if not reason:
            near = suggestion(str(ref), job_refs())
            raise JobNotFound(error.message, remedy=f"{near}{error.remedy or 'Run: tuneport jobs'}") from error
        raise JobNotFound(
            f"{ref} was never started: {reason}", remedy=f"Remove it from the list with: tuneport delete {ref}"
        ) from error


def look_at(job: Job) -> JobState:
    """A job's state now, which is kept in the ledger, for when its backend cannot be asked."""
    state = job.state()
    if job.notebook is not None:
        with suppress(JobNotFound):  # another process has deleted it
            job.notebook.keep(state)
    return state


@public()
def open_model(ref: str | Ref) -> Model:
    """The base or tuned model of that ref, loaded when it is first used. A job's name, the beginning of one, and `last`
    work as well. Raises RefError, ModelNotFound or JobNotFinished.
    """
    ref = find_ref(ref)
    try:
        return load().backend(ref.backend).model(ref.name)
    except (ModelNotFound, JobNotFound) as error:
        near = "" if "Did you mean" in (error.remedy or "") else suggestion(str(ref))
        if not near:
            raise
        raise type(error)(error.message, remedy=f"{near}{error.remedy or ''}".rstrip()) from error


@public()
def backends() -> dict[str, Backend]:
    """Every backend by name, ours first."""
    return load().backends()


@public()
def settle(ref: str | Ref) -> Job:
    """Find out what became of an unconfirmed start, and return its job.

    Raises JobNotFound when nothing was started, for certain, and JobNotFinished while that is not known.
    """
    ref = find_ref(ref)
    with Ledger.open() as ledger:
        record = ledger.job(ref)
        try:
            backend = load().backend(ref.backend)
            job = attach(backend, backend.settle(ref.name))
            state = job.state()
        except JobNotFound as error:
            if record.intent_state != "confirmed":
                ledger.fail(record.intent, error.message)
            raise
        if state.status is Status.UNCONFIRMED:
            raise JobNotFinished(
                f"{ref} is still unconfirmed: {state.message}", ref=str(ref), status=state.status, remedy=state.remedy
            )
        if record.intent_state != "failed":
            ledger.confirm(record.intent)
        ledger.keep_state(ref, state)
    return job


@public()
def delete(ref: str | Ref, *, dry_run: bool = False, force: bool = False) -> Removal:
    """Remove a job, its model and its report from its backend, home and the ledger. Returns what was (or would be)
    removed and what stays.

    Raises JobNotFound, JobNotFinished for a job that still runs and, unless `force`, UsageError for one whose model
    others were trained from (they may need it to load) and BackendNotFound where its backend is missing (what that
    keeps stays).
    """
    ref = find_ref(ref)
    if not force:
        _refuse_needed(ref)
    removal = _remove_from_backend(ref, dry_run=dry_run, force=force)
    removed = list(removal.removed)
    page = default_report(ref)
    if page.exists():
        removed.append(f"the report {page}")
    with Ledger.open() as ledger:
        if not dry_run:
            page.unlink(missing_ok=True)
            trained_rows.forget(ref)
        with suppress(JobNotFound):  # a job that this ledger never knew, or knows no more
            ledger.job(ref)
            removed.append(f"the ledger's entry of {ref}")
            if not dry_run:
                ledger.forget(ref)
    if not removed and (ref in base_refs() or any(job.base == ref for job in _jobs())):
        raise JobNotFound(
            f"{ref} is a base model; only jobs and their models can be deleted.",
            remedy="Remove its files yourself once no tuned model needs them.",
        )
    if not removed:
        raise JobNotFound(
            f"No job {ref} is known here.", remedy=f"{suggestion(str(ref), job_refs())}Run: tuneport jobs"
        )
    return Removal(removed=removed, kept=list(removal.kept))


def _remove_from_backend(ref: Ref, *, dry_run: bool, force: bool) -> Removal:
    try:
        job = open_job(ref)
    except BackendNotFound as error:
        if force:
            return Removal()
        cure = f"To remove it from the list but leave what its backend keeps: tuneport delete {ref} --force"
        raise BackendNotFound(error.message, remedy=f"{error.remedy}. {cure}") from error
    except NotFoundError:
        return Removal()
    if not (job.status.terminal or job.status.idle):
        raise JobNotFinished(
            f"{ref} is {job.status}.", ref=str(ref), status=job.status, remedy=f"Run first: tuneport cancel {ref}"
        )
    return job.delete(dry_run=dry_run)


def default_report(ref: Ref) -> Path:
    """Where the report of a job is written unless another place is named."""
    return home("reports") / f"{ref.name}.html"


def root_base(ref: str | Ref) -> Ref:
    """The model under all trainings that led to this one, as far as this machine knows them; itself where none did."""
    ref = find_ref(ref)
    with Ledger.open() as ledger:
        while True:
            try:
                ref = ledger.job(ref).base
            except JobNotFound:
                return ref


def find_report(ref: Ref) -> Path | None:
    """The report of a job in home, where one was written."""
    page = default_report(ref)
    return page if page.exists() else None


def _refuse_needed(ref: Ref) -> None:
    with Ledger.open() as ledger:
        try:
            ledger.job(ref)
        except JobNotFound:
            return  # a base model, or nothing: `delete` removes jobs alone
        heirs = [
            str(job.ref)
            for job in ledger.jobs()
            if job.base == ref and job.status not in (Status.FAILED, Status.CANCELLED)
        ]
    if heirs:
        raise UsageError(
            f"{' and '.join(heirs)} {'was' if len(heirs) == 1 else 'were'} trained from {ref}, and may not load "
            "without it.",
            remedy=f"Delete those first: tuneport delete {heirs[0]}. Or delete {ref} anyway: --force.",
        )


def _jobs() -> list[JobRecord]:
    with Ledger.open() as ledger:
        return ledger.jobs()


def _why_never_started(ref: Ref) -> str:
    with Ledger.open() as ledger:
        try:
            record = ledger.job(ref)
        except JobNotFound:
            return ""
    return record.reason if record.intent_state == "failed" else ""
