"""Jobs of all owners and the events of the server's own, for the work between requests."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from tuneport_server.store.database import Database, Row

SERVER_EVENTS, TRAINING_EVENTS = 0, 1
"""The two parts of a job's events: those of the server, and those of a training that its backend forgets."""

_NEXT = (  # the oldest of each owner, except for the jobs in a JSON array
    "SELECT id, owner, min(n) AS n FROM jobs WHERE over = 0 AND ref IS NULL AND (started = 1 OR want = '')"
    " AND NOT EXISTS (SELECT 1 FROM files WHERE status = 'uploaded' AND id IN (training_file, validation_file))"
    " AND id NOT IN (SELECT value FROM json_each(?)) GROUP BY owner"
)


class Jobs:
    """The table of jobs and that of their events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, id_: str) -> Row | None:
        """Return a job."""
        return self._database.row("SELECT * FROM jobs WHERE id = ?", id_)

    def open_ids(self) -> list[str]:
        """Return the ids of the jobs that are not over, oldest first."""
        return [row["id"] for row in self._database.rows("SELECT id FROM jobs WHERE over = 0 ORDER BY n")]

    def next_to_start(self, passed: Sequence[str]) -> list[Row]:
        """Return `id`, `owner` and `n` of each owner's oldest job that can be started, except for the ids in
        `passed`.
        """
        return self._database.rows(_NEXT, json.dumps(passed))

    def update(self, id_: str, **values: object) -> None:
        """Set columns of a job."""
        self._database.update("jobs", id_, **values)

    def add_event(self, id_: str, message: str, level: str = "info") -> None:
        """Add an event of the server's own."""
        with self._database.transaction():
            last = self._database.row("SELECT coalesce(max(seq), 0) AS n FROM events WHERE job = ? AND part = 0", id_)
            event = {"created_at": int(time.time()), "level": level, "message": message}
            number = (last["n"] if last else 0) + 1
            self._database.insert("events", job=id_, part=SERVER_EVENTS, seq=number, event=json.dumps(event))

    def has_event(self, id_: str, message: str) -> bool:
        """Is there an event of the server's own with this message?"""
        found = self._database.rows("SELECT event FROM events WHERE job = ? AND part = 0", id_)
        return any(json.loads(row["event"])["message"] == message for row in found)
