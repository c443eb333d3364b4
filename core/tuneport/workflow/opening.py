"""Jobs and models opened again by their refs, compared and deleted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tuneport.errors import BackendNotFound, JobNotFinished, JobNotFound, NotFoundError, UsageError
from tuneport.events import Status
from tuneport.homefolder import home
from tuneport.ledger import Ledger
from tuneport.plugins import load
from tuneport.refs import Ref
from tuneport.workflow import trained_rows
from tuneport.workflow.keeping import keep_state

if TYPE_CHECKING:
    from tuneport.backend import Backend
    from tuneport.evaluate import Comparison, Grader
    from tuneport.job import Job, JobState
    from tuneport.model import Model
    from tuneport.schemas import Shape
    from tuneport.workflow.starting import Rows


def open_backend(name: str) -> Backend:
    """The backend of that name, with its capabilities, settings and bases. Raises BackendNotFound."""
    return load().backend(name)


def open_job(ref: str | Ref) -> Job:
    """The job of that ref, from any process. Raises JobNotFound, which says why where a start was refused, or
    BackendNotFound when its plugin is missing.
    """
    ref = Ref.parse(ref)
    try:
        return load().backend(ref.backend).job(ref.name)
    except JobNotFound as error:
        reason = _why_never_started(ref)
        if not reason:
            raise
        raise JobNotFound(
            f"{ref} was never started: {reason}", remedy=f"Take it off the list with: tuneport delete {ref}"
        ) from error


def look_at(job: Job) -> JobState:
    """Where a job stands now; the ledger keeps it, for the day on which nobody can be asked."""
    state = job.state()
    keep_state(job, state)
    return state


def open_model(ref: str | Ref) -> Model:
    """The base or tuned model of that ref, loaded when it is first used. Raises ModelNotFound or JobNotFinished."""
    ref = Ref.parse(ref)
    return load().backend(ref.backend).model(ref.name)


def backends() -> dict[str, Backend]:
    """Every backend by name, ours first."""
    return load().backends()


def settle(ref: str | Ref) -> Job:
    """Learn what became of an unconfirmed start, and return its job.

    Raises JobNotFound when nothing was started, for certain, and JobNotFinished while nobody can tell.
    """
    ref = Ref.parse(ref)
    with Ledger.open() as ledger:
        record = ledger.job(ref)
        try:
            job = load().backend(ref.backend).settle(ref.name)
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
        ledger.heard(ref, state)
    return job


def compare(
    model: Model | str,
    holdout: Rows,
    *,
    grader: str | Grader = "auto",
    base: Model | str | Literal[False] | None = None,
    max_tokens: int | None = None,
    schema: Shape | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Comparison:
    """The tuned model beside its base (from its lineage; another `base`, or False for none) on rows it never saw.

    `grader` is `auto` (the one that fits the answers), a built-in's name, `module:function`, or a function
    `(example, answer) -> float` from 0 to 1. `schema` holds the answers of both models to JSON of that form (see
    `Model.reply`). `progress` gets (rows answered, rows, "base" or "tuned"). The result's `trained_on` counts rows that
    it saw after all.
    """
    from tuneport.evaluate import compare_models
    from tuneport.workflow.starting import opened

    tuned = open_model(model) if isinstance(model, str) else model
    if base is None and tuned.lineage is not None:
        base = tuned.lineage.base
    beside = open_model(base) if isinstance(base, str) else (base or None)
    rows = opened(holdout)
    seen = trained_rows.count_trained_on(tuned, rows)
    found = compare_models(tuned, beside, rows, grader, max_tokens=max_tokens, schema=schema, progress=progress)
    return replace(found, trained_on=seen)


def delete(ref: str | Ref, *, dry_run: bool = False, force: bool = False) -> list[str]:
    """Remove a job, its model and its report from its backend, home and the ledger; what was (or would be) removed, a
    line each.

    Raises JobNotFound, JobNotFinished for a job that still runs and, unless `force`, UsageError for one whose model
    others were trained from (they may need it to load) and BackendNotFound where its backend is missing (what that
    keeps stays).
    """
    ref = Ref.parse(ref)
    if not force:
        _refuse_needed(ref)
    removed = _removed_from_backend(ref, dry_run=dry_run, force=force)
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
    if not removed:
        raise JobNotFound(f"No job {ref} is known here.", remedy="Run: tuneport jobs")
    return removed


def _removed_from_backend(ref: Ref, *, dry_run: bool, force: bool) -> list[str]:
    try:
        job = open_job(ref)
    except BackendNotFound as error:
        if force:
            return []
        cure = f"To take it off the list and leave what its backend keeps: tuneport delete {ref} --force"
        raise BackendNotFound(error.message, remedy=f"{error.remedy}. {cure}") from error
    except NotFoundError:
        return []
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
    ref = Ref.parse(ref)
    with Ledger.open() as ledger:
        while True:
            try:
                ref = ledger.job(ref).base
            except JobNotFound:
                return ref


def written_report(ref: Ref) -> Path | None:
    """The report of a job in home, where one was written."""
    page = default_report(ref)
    return page if page.exists() else None


def _refuse_needed(ref: Ref) -> None:
    with Ledger.open() as ledger:
        heirs = [
            str(job.ref)
            for job in ledger.jobs()
            if job.base == ref and job.status not in (Status.FAILED, Status.CANCELLED)
        ]
    if heirs:
        raise UsageError(
            f"{' and '.join(heirs)} {'was' if len(heirs) == 1 else 'were'} trained from {ref}: without it they may not "
            "load any more.",
            remedy=f"Delete first what stands on it: tuneport delete {heirs[0]}. Or delete {ref} anyway: --force.",
        )


def _why_never_started(ref: Ref) -> str:
    with Ledger.open() as ledger:
        try:
            record = ledger.job(ref)
        except JobNotFound:
            return ""
    return record.reason if record.intent_state == "failed" else ""
