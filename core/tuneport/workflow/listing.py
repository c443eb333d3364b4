"""The jobs that were started from this machine, and the models that there are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from tuneport.contract.events import Status
from tuneport.doors import public
from tuneport.errors import BackendNotFound, JobNotFound, TuneportError, UsageError
from tuneport.ledger import JobRecord, Ledger
from tuneport.loader import ask_backend, ask_together, load
from tuneport.refs import Ref
from tuneport.spelling import did_you_mean
from tuneport.workflow.naming import bases_by_backend

if TYPE_CHECKING:
    from tuneport.contract.backend import Backend
    from tuneport.contract.state import JobState

OnFailure = Callable[[str, TuneportError | OSError], None]
"""Gets the name of a backend that could not answer, and why."""

_log = logging.getLogger("tuneport")


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """One line of `tuneport jobs`. `stale` says why the status is only the last known one; None: it is current. `score`
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
    """The jobs that were started from this machine, on any backend or on one, newest first, with their status now.

    `status` selects the jobs of one status or of several. Backends are asked side by side; where one fails or does not
    answer in time, the last known status is listed. Raises UsageError for an unknown status, and BackendNotFound for a
    backend that is not here and has no job here.
    """
    wanted = _statuses(status)
    with Ledger.open() as ledger:
        if backend is not None and all(one.backend != backend for one in ledger.refs()):
            load().backend(backend)  # one whose plugin is gone still has its jobs listed
        records = ledger.jobs(limit if wanted is None else None, backend=backend)
        listed = [one for one in records if wanted is None or one.status in wanted or not one.status.terminal]
        states = _ask_states(one for one in listed if not one.status.terminal)
        found = (_summary(ledger, record, states.get(record.ref)) for record in listed)
        return list(islice((one for one in found if wanted is None or one.status in wanted), limit))


def _statuses(given: str | Collection[str] | None) -> set[Status] | None:
    if given is None:
        return None
    names = {given} if isinstance(given, str) else set(given)
    if unknown := sorted(names - set(map(str, Status))):
        words = list(map(str, Status))
        raise UsageError(
            f"There is no status {unknown[0]!r}.",
            remedy=f"{did_you_mean(unknown[0], words)}Name one of: {', '.join(words)}",
        )
    return {Status(name) for name in names}


@public()
def models(*, on_failure: OnFailure | None = None) -> list[ModelSummary]:
    """The tuned models of this machine, newest first, then the base models that backends know by name.

    Backends are asked side by side. One that fails, or does not answer in time, leaves the others listed; `on_failure`
    gets its name and the error, which are logged as a warning without one.
    """
    tuned = [one for one in jobs() if one.status is Status.SUCCEEDED]
    backends = load().backends()
    here = [one.ref for one in tuned if one.ref.backend in backends]
    missing = ask_together(
        (ref.backend, ref, partial(ask_backend, backends[ref.backend], "missing", partial(_ask_missing, ref)))
        for ref in here
    )
    return [_summarize_tuned(one, missing.get(one.ref, "")) for one in tuned] + _bases(on_failure or _log_failure)


def _ask_missing(ref: Ref, backend: Backend) -> str:
    return backend.missing(ref.name)


def _bases(on_failure: OnFailure) -> list[ModelSummary]:
    found: list[ModelSummary] = []
    for name, known in bases_by_backend().items():
        if isinstance(known, Exception):
            on_failure(name, known)
            continue
        found += [
            ModelSummary(ref=info.ref, kind="base", description=info.description, present=info.present)
            for info in known
        ]
    return found


def _log_failure(name: str, error: TuneportError | OSError) -> None:
    _log.warning("The models of %s are not listed: %s", name, error)


def _summarize_tuned(job: JobSummary, missing: str | TuneportError | OSError) -> ModelSummary:
    backend = load().backends().get(job.ref.backend)
    said = missing if isinstance(missing, str) else f"Whether it can be used is not known: {missing}"
    return ModelSummary(
        ref=job.ref,
        kind="tuned",
        description=f"{job.base}, tuned by {job.method}{'. ' if said else ''}{said}",
        present=backend.capabilities.local and not said if backend else None,
        created=job.created,
    )


def _ask_states(records: Iterable[JobRecord]) -> dict[Ref, JobState | TuneportError | OSError]:
    """The state of each job now, or why it is not known; backends are asked side by side."""
    found: dict[Ref, JobState | TuneportError | OSError] = {}
    questions = []
    for record in records:
        try:
            backend = load().backend(record.ref.backend)
        except BackendNotFound as error:
            found[record.ref] = error
        else:
            ask = partial(ask_backend, backend, "job", partial(_ask_state, record.ref))
            questions.append((backend.name, record.ref, ask))
    return {**found, **ask_together(questions)}


def _ask_state(ref: Ref, backend: Backend) -> JobState:
    return backend.job(ref.name).state()


def _summary(ledger: Ledger, record: JobRecord, state: JobState | TuneportError | OSError | None) -> JobSummary:
    """One line; `state` is None for a job that is over, which is not asked about again."""
    known: dict[str, Any] = {
        "ref": record.ref,
        "base": record.base,
        "method": record.method,
        "created": record.created,
        **_scores(ledger, record),
    }
    if state is None:
        last: dict[str, Any] = {"message": record.reason, "step": record.step, "total_steps": record.total_steps}
        return JobSummary(**known, status=record.status, **last)
    if isinstance(state, JobNotFound):
        return JobSummary(**known, status=_without_a_job(record), stale=state.message)
    if isinstance(state, Exception):
        status = record.status if record.intent_state == "confirmed" else _without_a_job(record)
        return JobSummary(**known, status=status, stale=str(state))
    ledger.keep_state(record.ref, state)
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
    """The status of a job that its backend does not know: it was never asked, or that is not known."""
    return Status.INTERRUPTED if record.intent_state == "intended" else Status.UNCONFIRMED
