"""What was started from this machine, and which models there are, a line each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from tuneport.contract.events import Status
from tuneport.doors import public
from tuneport.errors import JobNotFound, TuneportError, UsageError
from tuneport.ledger import JobRecord, Ledger
from tuneport.loader import load, told_by
from tuneport.refs import Ref

if TYPE_CHECKING:
    from tuneport.contract.backend import Backend

OnFailure = Callable[[str, TuneportError | OSError], None]
"""Is told which backend could not answer, and why."""

_log = logging.getLogger("tuneport")


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """One line of `tuneport jobs`. `stale` says why the status is only the last one heard; None: it is of now. `score`
    and `base_score` are the mean scores, from 0 to 1, that the job's run found on its holdout.
    """

    ref: Ref
    status: Status
    base: Ref
    method: str
    created: datetime
    message: str = ""
    step: int = 0
    total_steps: int | None = None
    seconds_left: float | None = None
    stale: str | None = None
    score: float | None = None
    base_score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain |= {"ref": str(self.ref), "base": str(self.base), "status": str(self.status)}
        return plain | {"created": self.created.isoformat()}


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """One line of `tuneport models`: a tuned model of this machine, or a base model that a backend knows by name."""

    ref: Ref
    kind: Literal["tuned", "base"]
    description: str
    present: bool | None = None
    created: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "ref": str(self.ref),
            "kind": self.kind,
            "description": self.description,
            "present": self.present,
            "created": self.created.isoformat() if self.created else None,
        }


@public()
def jobs(
    limit: int | None = None, *, backend: str | None = None, status: str | Collection[str] | None = None
) -> list[JobSummary]:
    """What was started from this machine on any backend, or on one, newest first, with the status of now where it can
    be had; only jobs of one `status` or of several, where they are named. Raises UsageError for a status that is none,
    and BackendNotFound for a backend that is not here and has no job here.
    """
    wanted = _statuses(status)
    with Ledger.open() as ledger:
        if backend is not None and all(one.backend != backend for one in ledger.refs()):
            load().backend(backend)  # one whose plugin is gone still has its jobs listed
        records = ledger.jobs(limit if wanted is None else None, backend=backend)
        # One that is over stays so: nobody is asked about it again.
        asked = [one for one in records if wanted is None or one.status in wanted or not one.status.terminal]
        found = (_summary(ledger, record) for record in asked)
        return list(islice((one for one in found if wanted is None or one.status in wanted), limit))


def _statuses(given: str | Collection[str] | None) -> set[Status] | None:
    if given is None:
        return None
    names = {given} if isinstance(given, str) else set(given)
    if unknown := sorted(names - set(map(str, Status))):
        near = get_close_matches(unknown[0], map(str, Status), n=1)
        raise UsageError(
            f"There is no status {unknown[0]!r}.",
            remedy=f"{f'Did you mean {near[0]}? ' if near else ''}Name one of: {', '.join(map(str, Status))}",
        )
    return {Status(name) for name in names}


@public()
def models(*, on_failure: OnFailure | None = None) -> list[ModelSummary]:
    """The tuned models of this machine, newest first, then the base models that backends know by name.

    A backend that cannot say which it knows leaves the others listed; `on_failure` gets its name and the error, which
    are logged as a warning without one.
    """
    return [_tuned(job) for job in jobs() if job.status is Status.SUCCEEDED] + _bases(on_failure or _log_failure)


def _bases(on_failure: OnFailure) -> list[ModelSummary]:
    found: list[ModelSummary] = []
    for name, backend in load().backends().items():
        try:
            known = told_by(backend, "listing its models", lambda one: one.bases())
        except (TuneportError, OSError) as error:
            on_failure(name, error)
            continue
        found += [
            ModelSummary(ref=info.ref, kind="base", description=info.description, present=info.present)
            for info in known
        ]
    return found


def _log_failure(name: str, error: TuneportError | OSError) -> None:
    _log.warning("The models that %s knows are left out: %s", name, error)


def _tuned(job: JobSummary) -> ModelSummary:
    backend = load().backends().get(job.ref.backend)
    missing = _missing(backend, job.ref) if backend else ""
    return ModelSummary(
        ref=job.ref,
        kind="tuned",
        description=f"{job.base}, tuned by {job.method}{'. ' if missing else ''}{missing}",
        present=backend.capabilities.local and not missing if backend else None,
        created=job.created,
    )


def _missing(backend: Backend, ref: Ref) -> str:
    """What the model lacks to be used, or why nobody could tell."""
    try:
        return told_by(backend, f"looking at {ref}", lambda one: one.missing(ref.name))
    except (TuneportError, OSError) as error:
        return f"What it needs could not be told: {error}"


def _summary(ledger: Ledger, record: JobRecord) -> JobSummary:
    known: dict[str, Any] = {
        "ref": record.ref,
        "base": record.base,
        "method": record.method,
        "created": record.created,
        **_scores(ledger, record),
    }
    if record.status.terminal:
        return JobSummary(
            **known,
            status=record.status,
            message=record.reason,
            step=record.step,
            total_steps=record.total_steps,
        )
    try:
        backend = load().backend(record.ref.backend)
        state = told_by(backend, f"looking at {record.ref}", lambda one: one.job(record.ref.name).state())
    except JobNotFound as error:
        return JobSummary(**known, status=_without_a_job(record), stale=error.message)
    except (TuneportError, OSError) as error:
        return JobSummary(**known, status=record.status, stale=str(error))
    ledger.heard(record.ref, state)
    return JobSummary(
        **known,
        status=state.status,
        message=state.message,
        step=state.step,
        total_steps=state.total_steps,
        seconds_left=state.seconds_left,
    )


def _scores(ledger: Ledger, record: JobRecord) -> dict[str, float]:
    """The mean scores that the job's run found, where it has compared this job's model."""
    compared = ledger.run(record.run).results.get("compared", {}) if record.run else {}
    if compared.get("job") != str(record.ref):
        return {}
    sides = {"score": compared["comparison"]["tuned"], "base_score": compared["comparison"]["base"]}
    return {name: side["mean"] for name, side in sides.items() if side}


def _without_a_job(record: JobRecord) -> Status:
    """The status of a job that its backend does not know: it was never asked, or we cannot tell."""
    return Status.INTERRUPTED if record.intent_state == "intended" else Status.UNCONFIRMED
