"""The access rule: what one owner has. Every statement here names the owner."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

from tuneport_server.store.database import Database, Row
from tuneport_server.store.jobs import TRAINING_EVENTS, Jobs
from tuneport_server.store.uploads import Uploads

_TUNED = "owner = ? AND status = 'succeeded' AND NOT removed"


class UnknownCursorError(LookupError):
    """The id that a page of a list should follow is not in the list."""


class Owned:
    """The files, uploads, jobs and models of one owner. This is all that a route can reach of the store.

    An id that belongs to another owner is treated like one that does not exist: methods return None, and change
    nothing.
    """

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self.owner = owner

    def transaction(self) -> AbstractContextManager[None]:
        """Everything written inside is kept, or nothing of it."""
        return self._database.transaction()

    def job(self, id_: str) -> Row | None:
        """Return a job."""
        return self._database.row("SELECT * FROM jobs WHERE id = ? AND owner = ?", id_, self.owner)

    def jobs(
        self,
        after: str | None = None,
        limit: int = 20,
        metadata: Sequence[tuple[str, str]] = (),
        *,
        bare: bool = False,
    ) -> list[Row]:
        """Return at most `limit` jobs, newest first: those after a job's id, those whose metadata has all given pairs,
        with `bare` those without metadata. Raises UnknownCursorError.
        """
        where: list[str] = ["owner = ?"]
        values: list[object] = [self.owner]
        if bare:
            where.append("metadata = '{}'")
        for pair in metadata:
            where.append("EXISTS (SELECT 1 FROM json_each(jobs.metadata) WHERE key = ? AND json_each.value = ?)")
            values += pair
        if after is not None:
            where.append("n < ?")
            values.append(self._position("jobs", after))
        condition = " AND ".join(where)
        statement = f"SELECT * FROM jobs WHERE {condition} ORDER BY n DESC LIMIT ?"  # noqa: S608 - our own conditions
        return self._database.rows(statement, *values, limit)

    def open_jobs(self) -> int:
        """Return how many jobs are not over."""
        row = self._database.row("SELECT count(*) AS n FROM jobs WHERE owner = ? AND over = 0", self.owner)
        return int(row["n"]) if row else 0

    def repeated_job(self, body: str, retry: int, arrived: float, seconds: float) -> Row | None:
        """Return the job that another attempt of the same request created: an earlier attempt within `seconds`, if this
        one is a retry, or a later one that came first. `body` is the hash of the request's body.
        """
        return self._database.row(
            "SELECT * FROM jobs WHERE owner = ? AND same = ? AND created >= ? AND (? OR (retry > 0 AND created >= ?))"
            " ORDER BY n DESC",
            *(self.owner, body, arrived - seconds, retry > 0, arrived),
        )

    def add_job(self, id_: str, **values: object) -> Row:
        """Add a job, with its first event."""
        with self.transaction():
            self._database.insert("jobs", id=id_, owner=self.owner, **values)
            Jobs(self._database).add_event(id_, f"Created fine-tuning job: {id_}")
            row = self.job(id_)
        assert row is not None
        return row

    def update_job(self, id_: str, **values: object) -> None:
        """Set columns of a job."""
        sets = ", ".join(f"{name} = ?" for name in values)
        statement = f"UPDATE jobs SET {sets} WHERE id = ? AND owner = ?"  # noqa: S608 - our own names
        self._database.change(statement, *values.values(), id_, self.owner)

    def events(self, job: str, part: int) -> list[dict[str, Any]]:
        """Return the events of a job that the server itself keeps: `SERVER_EVENTS` or `TRAINING_EVENTS`."""
        found = self._database.rows(
            "SELECT event FROM events WHERE job = (SELECT id FROM jobs WHERE id = ? AND owner = ?) AND part = ?"
            " ORDER BY seq",
            *(job, self.owner, part),
        )
        return [json.loads(row["event"]) for row in found]

    def keep_events(self, job: str, events: Sequence[Mapping[str, Any]]) -> None:
        """Keep the events of a training whose backend is about to forget them."""
        if self.job(job) is None:
            return
        with self.transaction():
            for number, event in enumerate(events, 1):
                values = (job, TRAINING_EVENTS, number, json.dumps(event))
                self._database.change("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)", *values)

    def models(self) -> list[Row]:
        """Return the jobs whose tuned models exist, newest first."""
        return self._database.rows(f"SELECT * FROM jobs WHERE {_TUNED} ORDER BY n DESC", self.owner)  # noqa: S608 - our own words

    def model(self, name: str) -> Row | None:
        """Return the job that made a tuned model."""
        statement = f"SELECT * FROM jobs WHERE {_TUNED} AND tuned = ?"  # noqa: S608 - our own words
        return self._database.row(statement, self.owner, name)

    def file(self, id_: str) -> Row | None:
        """Return a file that is neither deleted nor expired."""
        return self._database.row("SELECT * FROM present WHERE id = ? AND owner = ?", id_, self.owner)

    def files(
        self,
        after: str | None = None,
        limit: int = 20,
        purpose: str | None = None,
        order: Literal["asc", "desc"] = "desc",
    ) -> list[Row]:
        """Return at most `limit` files, newest first unless `order` is "asc". Raises UnknownCursorError."""
        start = None if after is None else self._position("files", after)
        beyond, sorting = (">", "ASC") if order == "asc" else ("<", "DESC")
        statement = (
            "SELECT * FROM present WHERE owner = ?1 AND (?2 IS NULL OR purpose = ?2)"  # noqa: S608 - our own words
            f" AND (?3 IS NULL OR n {beyond} ?3) ORDER BY n {sorting} LIMIT ?4"
        )
        return self._database.rows(statement, self.owner, purpose, start, limit)

    def file_count(self) -> int:
        """Return how many files there are."""
        row = self._database.row("SELECT count(*) AS n FROM present WHERE owner = ?", self.owner)
        return int(row["n"]) if row else 0

    def add_file(self, id_: str, **values: object) -> None:
        """Add a file whose bytes are in place."""
        self._database.insert("files", id=id_, owner=self.owner, **values)

    def mark_file_deleted(self, id_: str, now: int) -> None:
        """Mark a file as deleted."""
        self._database.change("UPDATE files SET deleted = ? WHERE id = ? AND owner = ?", now, id_, self.owner)

    def check(self, file: str) -> dict[str, Any] | None:
        """Return the result of a file's check; None until it is known."""
        row = self._database.row(
            "SELECT result FROM checks WHERE file = (SELECT id FROM files WHERE id = ? AND owner = ?)",
            *(file, self.owner),
        )
        return None if row is None else json.loads(row["result"])

    def upload(self, id_: str) -> Row | None:
        """Return an upload in parts."""
        return self._database.row("SELECT * FROM uploads WHERE id = ? AND owner = ?", id_, self.owner)

    def add_upload(self, id_: str, **values: object) -> None:
        """Add an upload."""
        self._database.insert("uploads", id=id_, owner=self.owner, status="pending", **values)

    def parts(self, upload: str) -> list[Row]:
        """Return the parts of an upload that have arrived."""
        return self._database.rows(
            "SELECT * FROM parts WHERE upload = (SELECT id FROM uploads WHERE id = ? AND owner = ?)",
            *(upload, self.owner),
        )

    def add_part(self, id_: str, upload: str, **values: object) -> None:
        """Add a part to an upload whose row was found."""
        self._database.insert("parts", id=id_, upload=upload, **values)

    def complete_upload(self, id_: str, file: str) -> list[str]:
        """Set the file that a pending upload has become, and forget its parts. Returns the ids of those parts."""
        with self.transaction():
            self._database.change("UPDATE uploads SET file = ? WHERE id = ? AND owner = ?", file, id_, self.owner)
            return Uploads(self._database).end(id_, "completed") if self.upload(id_) is not None else []

    def _position(self, table: Literal["jobs", "files"], id_: str) -> int:
        statement = f"SELECT n FROM {table} WHERE id = ? AND owner = ?"  # noqa: S608 - one of two words of our own
        row = self._database.row(statement, id_, self.owner)
        if row is None:
            raise UnknownCursorError(id_)
        return int(row["n"])
