"""What has happened to jobs whose backend does not number its events, and how far observers have seen."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tuneport.contract.events import Event
from tuneport.ledger.database import Database, first, parse_json, readable_rows
from tuneport.ledger.records import job_of
from tuneport.refs import Ref


class History:
    """Events, numbered once per job, and a cursor per observer and job. Every method raises JobNotFound."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, ref: Ref | str, events: Iterable[tuple[str, Event]]) -> list[Event]:
        """Keep events by the backend's own ids, in the order given; those not seen before come back with their `seq`.

        The `seq` they come with is not looked at. Of an id that is known already nothing changes, so that any number of
        processes may poll and hand in what they saw.
        """
        new: list[Event] = []
        with self._database.write() as sql:
            intent = job_of(sql, ref).intent
            seq: int = first(sql, "SELECT coalesce(max(seq), 0) FROM events WHERE intent = ?", intent)[0]  # type: ignore[index]  # an aggregate always gives a row
            for native_id, event in events:
                numbered = Event.from_dict({**event.to_dict(), "seq": seq + 1})
                done = sql.execute(
                    "INSERT INTO events (intent, seq, native_id, event) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (intent, seq + 1, native_id, json.dumps(numbered.to_dict())),
                )
                if done.rowcount:
                    seq += 1
                    new.append(numbered)
        return new

    def events(self, ref: Ref | str, after: int = 0) -> list[Event]:
        """The events kept for a job, in order, from the one that follows number `after`."""
        with self._database.read() as sql:
            rows = sql.execute(
                "SELECT event FROM events WHERE intent = ? AND seq > ? ORDER BY seq", (job_of(sql, ref).intent, after)
            )
            with readable_rows():
                return [Event.from_dict(parse_json(row["event"])) for row in rows]

    def last(self, ref: Ref | str) -> int:
        """The number of the last event kept for a job; 0 when there is none."""
        with self._database.read() as sql:
            row = first(sql, "SELECT max(seq) AS seq FROM events WHERE intent = ?", job_of(sql, ref).intent)
            return (row["seq"] or 0) if row else 0

    def cursor(self, observer: str, ref: Ref | str) -> int:
        """The number of the last event of that job that the observer has been handed; 0 when none."""
        with self._database.read() as sql:
            intent = job_of(sql, ref).intent
            row = first(sql, "SELECT seq FROM cursors WHERE observer = ? AND intent = ?", observer, intent)
            return row["seq"] if row else 0

    def set_cursor(self, observer: str, ref: Ref | str, seq: int) -> None:
        """Record that the observer has every event up to number `seq`. A cursor never goes back."""
        with self._database.write() as sql:
            sql.execute(
                "INSERT INTO cursors (observer, intent, seq) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)",
                (observer, job_of(sql, ref).intent, seq),
            )
