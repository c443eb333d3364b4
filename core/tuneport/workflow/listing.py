"""What was started from this machine, and which models there are, a line each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tuneport.errors import JobNotFound, TuneportError
from tuneport.events import Status
from tuneport.ledger import JobRecord, Ledger
from tuneport.plugins import load
from tuneport.refs import Ref


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """One line of `tuneport jobs`. `stale` says why the status is only the last one heard; None: it is of now."""

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

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain |= {"ref": str(self.ref), "base": str(self.base), "status": str(self.status)}
        return plain | {"created": self.created.isoformat()}


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


def jobs(limit: int | None = None, *, backend: str | None = None) -> list[JobSummary]:
    """What was started from this machine on any backend, or on one, newest first, with the status of now where it can
    be had.
    """
    with Ledger.open() as ledger:
        return [_summary(ledger, record) for record in ledger.jobs(limit, backend=backend)]


def models() -> list[ModelSummary]:
    """The tuned models of this machine, newest first, then the base models that backends know by name."""
    tuned = [_tuned(job) for job in jobs() if job.status is Status.SUCCEEDED]
    bases = [
        ModelSummary(ref=info.ref, kind="base", description=info.description, present=info.present)
        for backend in load().backends().values()
        for info in backend.bases()
    ]
    return tuned + bases


def _tuned(job: JobSummary) -> ModelSummary:
    backend = load().backends().get(job.ref.backend)
    missing = backend.missing(job.ref.name) if backend else ""
    return ModelSummary(
        ref=job.ref,
        kind="tuned",
        description=f"{job.base}, tuned by {job.method}{'. ' if missing else ''}{missing}",
        present=backend.capabilities.local and not missing if backend else None,
        created=job.created,
    )


def _summary(ledger: Ledger, record: JobRecord) -> JobSummary:
    known: dict[str, Any] = {
        "ref": record.ref,
        "base": record.base,
        "method": record.method,
        "created": record.created,
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
        state = load().backend(record.ref.backend).job(record.ref.name).state()
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


def _without_a_job(record: JobRecord) -> Status:
    """The status of a job that its backend does not know: it was never asked, or we cannot tell."""
    return Status.INTERRUPTED if record.intent_state == "intended" else Status.UNCONFIRMED
