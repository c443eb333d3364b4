"""The ledger's verbs: jobs and their intents, and the stages of runs."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import uuid
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tuneport.contract.events import Status, utc_now
from tuneport.contract.state import JobState
from tuneport.errors import NotFoundError, UsageError
from tuneport.homefolder import home
from tuneport.ledger.database import BUSY_SECONDS, Database, first
from tuneport.ledger.history import History
from tuneport.ledger.records import IntentState, JobRecord, RunRecord, Stage, job_of, job_of_intent, no_job
from tuneport.ledger.scratch import Scratch
from tuneport.refs import Ref

_LETTERS = "abcdefghjkmnpqrstvwxyz0123456789"  # base 32 without i, l, o and u, which are misread
_LOST = (str(Status.FAILED), str(Status.CANCELLED))
_NEXT: dict[IntentState, tuple[IntentState, ...]] = {
    "intended": ("sent", "confirmed", "unconfirmed", "failed"),
    "sent": ("confirmed", "unconfirmed", "failed"),
    "unconfirmed": ("confirmed", "failed"),
    "confirmed": (),
    "failed": (),
}
_RUNS = """
SELECT runs.*, jobs.backend AS job_backend, jobs.name AS job_name FROM runs
LEFT JOIN jobs ON jobs.rowid = (SELECT max(rowid) FROM jobs WHERE run = runs.id)
"""


class Ledger:
    """The SQLite file in home that knows what was started from this machine.

    Any number of processes and threads may use it at once. Every method that writes has written durably when it
    returns; all raise HomeError when the file cannot be used.
    """

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        """`busy_seconds`: how long to wait for another process that holds the file."""
        self._database = Database(path, busy_seconds)
        self.path = path

    @classmethod
    def open(cls, path: str | Path | None = None) -> Ledger:
        """The ledger of home, or of another file; created or brought up to date where needed.

        Raises HomeError when a newer tuneport wrote it, and when it lies on a network file system.
        """
        return cls(home() / "ledger.sqlite3" if path is None else Path(path))

    def close(self) -> None:
        """Close this thread's connection; the next use opens it again."""
        self._database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Jobs and their intents

    def record_intent(
        self,
        *,
        backend: str,
        base: Ref,
        identity: str,
        fingerprint: str,
        stem: str = "",
        method: str = "sft",
        intent: str | None = None,
        config: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        run: str | None = None,
        reserved: Collection[str] = (),
        reuse: bool = False,
    ) -> JobRecord:
        """Record that a job is about to be requested, and give it a name that no job had and none of `reserved`.

        The name is `stem` (a suffix, or the data file's name) made plain, with a few letters drawn by lot. An `intent`
        that is known already gives its job back. With `reuse`, so does an `identity` whose job lives or succeeded: look
        it up and write it are one transaction, so that of two processes only one starts a job.
        """
        intent = intent or str(uuid.uuid4())
        with self._database.write() as sql:
            known = first(sql, "SELECT * FROM jobs WHERE intent = ?", intent)
            known = known or (_of_identity(sql, identity) if reuse else None)
            if known:
                return JobRecord.from_row(known)
            _insert_job(
                sql,
                intent=intent,
                backend=backend,
                name=_new_name(sql, stem, reserved),
                identity=identity,
                fingerprint=fingerprint,
                base=str(base),
                method=method,
                config=json.dumps(dict(config or {})),
                settings=json.dumps(dict(settings or {})),
                metadata=json.dumps(dict(metadata or {})),
                run=run,
            )
            return job_of_intent(sql, intent)

    def mark_sent(self, intent: str) -> JobRecord:
        """Record that the backend is being asked. If nothing is recorded after this, it may have the job."""
        return self._conclude(intent, "sent")

    def confirm(self, intent: str) -> JobRecord:
        """Record that the backend has the job. May be repeated."""
        return self._conclude(intent, "confirmed")

    def doubt(self, intent: str) -> JobRecord:
        """Record that it is not known whether the backend has the job: nothing may be sent again."""
        return self._conclude(intent, "unconfirmed")

    def fail(self, intent: str, message: str = "") -> JobRecord:
        """Record that the backend certainly has no such job: it refused or was never asked. `message` is the reason."""
        return self._conclude(intent, "failed", message)

    def _conclude(self, intent: str, state: IntentState, reason: str = "") -> JobRecord:
        status = {"failed": Status.FAILED, "unconfirmed": Status.UNCONFIRMED}.get(state)
        with self._database.write() as sql:
            job = job_of_intent(sql, intent)
            if job.intent_state != state and state not in _NEXT[job.intent_state]:
                raise UsageError(
                    f"The start of {job.ref} is {job.intent_state} already and cannot become {state}.",
                    remedy=f"Run: tuneport {'settle' if job.intent_state == 'unconfirmed' else 'show'} {job.ref}",
                )
            if status is None and job.status is Status.UNCONFIRMED:
                status = Status.QUEUED
            sql.execute(
                "UPDATE jobs SET intent_state = ?, remote = ?, status = ?, status_time = ? WHERE intent = ?",
                (
                    *(state, _facts(reason or job.reason), str(status or job.status)),
                    *(_text(utc_now() if status else job.status_time), intent),
                ),
            )
            return job_of_intent(sql, intent)

    def keep_state(self, ref: Ref | str, state: JobState, time: datetime | None = None) -> JobRecord:
        """Keep the last known state of a job: its status, its steps, and why it failed. A job that is over stays over,
        whatever a late answer says.
        """
        with self._database.write() as sql:
            job = job_of(sql, ref)
            if not job.status.terminal:
                sql.execute(
                    "UPDATE jobs SET status = ?, native = ?, step = ?, total_steps = ?, remote = ?, status_time = ?"
                    " WHERE intent = ?",
                    (
                        *(str(state.status), state.native, state.step, state.total_steps),
                        _facts(state.message if state.status is Status.FAILED else ""),
                        *(_text(time or utc_now()), job.intent),
                    ),
                )
            return job_of_intent(sql, job.intent)

    def job(self, ref: Ref | str) -> JobRecord:
        """The job of that ref; raises JobNotFound when there is none, or it was forgotten."""
        with self._database.read() as sql:
            return job_of(sql, ref)

    def jobs(self, limit: int | None = None, *, backend: str | None = None) -> list[JobRecord]:
        """The jobs that are not forgotten, newest first."""
        with self._database.read() as sql:
            rows = sql.execute(
                "SELECT * FROM jobs WHERE forgotten IS NULL AND (? IS NULL OR backend = ?) ORDER BY rowid DESC LIMIT ?",
                (backend, backend, -1 if limit is None else limit),
            )
            return [JobRecord.from_row(row) for row in rows]

    def refs(self) -> list[Ref]:
        """The refs of the jobs that are not forgotten, newest first."""
        with self._database.read() as sql:
            rows = sql.execute("SELECT backend, name FROM jobs WHERE forgotten IS NULL ORDER BY rowid DESC")
            return [Ref(row["backend"], row["name"]) for row in rows]

    def find_live_or_finished(self, identity: str) -> JobRecord | None:
        """The newest job of that identity that neither failed nor was cancelled nor forgotten."""
        with self._database.read() as sql:
            row = _of_identity(sql, identity)
            return JobRecord.from_row(row) if row else None

    def forget(self, ref: Ref | str) -> None:
        """Take a job out of every list, with its events and scratch, and with what its run found (rows and answers too)
        unless another job of that run is left. Its name stays taken. May be repeated.
        """
        ref = Ref.parse(ref)
        with self._database.write() as sql:
            row = first(sql, "SELECT intent, run FROM jobs WHERE backend = ? AND name = ?", ref.backend, ref.name)
            if row is None:
                raise no_job(ref)
            for table in ("events", "cursors", "scratch"):
                sql.execute(f"DELETE FROM {table} WHERE intent = ?", (row["intent"],))  # noqa: S608 - our own tables
            sql.execute(
                "UPDATE jobs SET forgotten = coalesce(forgotten, ?) WHERE intent = ?", (_text(utc_now()), row["intent"])
            )
            sql.execute(
                "UPDATE runs SET stage = 'checked', results = '{}' WHERE id = ?"
                " AND NOT EXISTS (SELECT 1 FROM jobs WHERE run = runs.id AND forgotten IS NULL)",
                (row["run"],),
            )

    def begin_run(self, identity: str, config: Mapping[str, Any], *, again: bool = False) -> RunRecord:
        """The run of that identity where there is one, unless `again`; else a new one, at stage `checked`."""
        with self._database.write() as sql:
            row = None if again else first(sql, f"{_RUNS} WHERE runs.identity = ? ORDER BY runs.rowid DESC", identity)
            if row:
                return RunRecord.from_row(row)
            run = str(uuid.uuid4())
            sql.execute(
                "INSERT INTO runs (id, identity, created, config) VALUES (?, ?, ?, ?)",
                (run, identity, _text(utc_now()), json.dumps(dict(config))),
            )
            return _run(sql, run)

    def advance(self, run: str, stage: Stage, data: Any = None) -> RunRecord:
        """The run has reached `stage`, which left `data` (a JSON value). A run never goes backwards: a stage behind the
        its current one only replaces that stage's data.
        """
        with self._database.write() as sql:
            record = _run(sql, run)
            results = dict(record.results) if data is None else {**record.results, stage: data}
            furthest = record.stage if record.has_reached(stage) else stage
            sql.execute("UPDATE runs SET stage = ?, results = ? WHERE id = ?", (furthest, json.dumps(results), run))
            return _run(sql, run)

    def run(self, run: str) -> RunRecord:
        """The run of that id; raises NotFoundError."""
        with self._database.read() as sql:
            return _run(sql, run)

    @property
    def history(self) -> History:
        """The events of jobs whose backend does not number its own, and what observers have seen."""
        return History(self._database)

    def scratch(self, intent: str) -> Scratch:
        """What a backend must not forget about the job of that intent."""
        return Scratch(self._database, intent)


def _of_identity(sql: sqlite3.Connection, identity: str) -> sqlite3.Row | None:
    return first(
        sql,
        "SELECT * FROM jobs WHERE identity = ? AND forgotten IS NULL AND status NOT IN (?, ?) ORDER BY rowid DESC",
        identity,
        *_LOST,
    )


def _facts(reason: str) -> str:
    """The column `remote`, as JSON: why the job failed, where it did."""
    return json.dumps({"reason": reason} if reason else {})


def _insert_job(sql: sqlite3.Connection, **values: str | None) -> None:
    now = _text(utc_now())
    values |= {"status": str(Status.QUEUED), "created": now, "status_time": now}
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    sql.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", tuple(values.values()))  # noqa: S608 - the names above


def _run(sql: sqlite3.Connection, run: str) -> RunRecord:
    row = first(sql, f"{_RUNS} WHERE runs.id = ?", run)
    if row is None:
        raise NotFoundError(f"The ledger has no run {run}.", remedy="Run: tuneport jobs")
    return RunRecord.from_row(row)


def _new_name(sql: sqlite3.Connection, stem: str, reserved: Collection[str]) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-") or "job"
    for attempt in range(1000):
        letters = min(4 + attempt // 8, 6)
        name = f"{plain}-{''.join(secrets.choice(_LETTERS) for _ in range(letters))}"
        if name not in reserved and not first(sql, "SELECT 1 FROM jobs WHERE name = ?", name):
            return name
    raise UsageError(f"No free name begins with {plain!r}.", remedy="Choose another suffix.")


def _text(time: datetime) -> str:
    return time.isoformat()
