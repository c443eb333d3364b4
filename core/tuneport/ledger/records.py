"""The rows of the ledger as values."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tuneport.contract.events import Status
from tuneport.errors import JobNotFound
from tuneport.ledger.database import first, parse_json, readable_rows
from tuneport.refs import Ref

IntentState = Literal["intended", "sent", "confirmed", "unconfirmed", "failed"]
"""`intended`: written down, the backend may not have been asked yet. `sent`: it has been asked, and no answer is known.
`confirmed`: it has the job. `unconfirmed`: whether it has could not be found out. `failed`: it has not, for certain."""

Stage = Literal["checked", "planned", "submitted", "trained", "compared", "reported"]
STAGES: tuple[Stage, ...] = ("checked", "planned", "submitted", "trained", "compared", "reported")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """What this machine knows of a job. `status`, `step` and `total_steps` are the last ones heard (at `status_time`);
    times are UTC.

    `reason` is why it failed or was never started, where it was.
    """

    ref: Ref
    intent: str
    intent_state: IntentState
    identity: str
    fingerprint: str
    base: Ref
    method: str
    created: datetime
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    metadata: Mapping[str, str]
    run: str | None
    status: Status
    native: str
    status_time: datetime
    step: int = 0
    total_steps: int | None = None
    reason: str = ""

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> JobRecord:
        """The record of a row of the table `jobs`."""
        with readable_rows():
            return cls(
                ref=Ref(row["backend"], row["name"]),
                intent=row["intent"],
                intent_state=row["intent_state"],
                identity=row["identity"],
                fingerprint=row["fingerprint"],
                base=Ref.parse(row["base"]),
                method=row["method"],
                created=_time(row["created"]),
                config=parse_json(row["config"]),
                settings=parse_json(row["settings"]),
                metadata=parse_json(row["metadata"]),
                run=row["run"],
                status=_status(row["status"]),
                native=row["native"],
                status_time=_time(row["status_time"]),
                step=row["step"],
                total_steps=row["total_steps"],
                reason=str(parse_json(row["remote"]).get("reason", "")),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A config carried through its stages. `results` has what each stage left, by the stage's name; `job` is the newest
    job of the run.
    """

    id: str
    identity: str
    created: datetime
    config: Mapping[str, Any]
    stage: Stage
    job: Ref | None
    results: Mapping[str, Any] = field(default_factory=dict)

    def has_reached(self, stage: Stage) -> bool:
        """Whether the run has come to that stage or beyond."""
        return STAGES.index(self.stage) >= STAGES.index(stage)

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> RunRecord:
        """The record of a row of `runs` joined with its newest job."""
        with readable_rows():
            STAGES.index(row["stage"])
            return cls(
                id=row["id"],
                identity=row["identity"],
                created=_time(row["created"]),
                config=parse_json(row["config"]),
                stage=row["stage"],
                job=Ref(row["job_backend"], row["job_name"]) if row["job_name"] else None,
                results=_results(row["results"]),
            )


def job_of(sql: sqlite3.Connection, ref: Ref | str) -> JobRecord:
    """The job of that ref; raises JobNotFound when there is none, or it was forgotten."""
    ref = Ref.parse(ref)
    row = first(sql, "SELECT * FROM jobs WHERE backend = ? AND name = ? AND forgotten IS NULL", ref.backend, ref.name)
    if row is None:
        raise no_job(ref)
    return JobRecord.from_row(row)


def job_of_intent(sql: sqlite3.Connection, intent: str) -> JobRecord:
    """The job of that intent, forgotten or not; raises JobNotFound."""
    row = first(sql, "SELECT * FROM jobs WHERE intent = ?", intent)
    if row is None:
        raise JobNotFound(f"The ledger has no intent {intent}.", remedy="Run: tuneport jobs")
    return JobRecord.from_row(row)


def no_job(ref: Ref) -> JobNotFound:
    """The error for a ref that no job has."""
    return JobNotFound(f"No job {ref} is known here.", remedy="Run: tuneport jobs")


def _status(word: str) -> Status:
    try:
        return Status(word)
    except ValueError:
        return Status.UNKNOWN


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"the time {text} has no zone")
    return time


def _results(text: str) -> dict[str, Any]:
    results: dict[str, Any] = parse_json(text)
    if not all(isinstance(one, dict) for one in results.values()):
        raise ValueError("a stage of a run left no object")
    return results
