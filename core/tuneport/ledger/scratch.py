"""What a backend must not forget about a job."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from typing import Any

from tuneport.ledger.database import Database, first, parse_json, readable_rows


class Scratch(MutableMapping[str, Any]):
    """Text → JSON value, kept in the ledger: each assignment and deletion is durable when it returns.

    What is read is a copy: to change a list or dictionary, assign it again.
    """

    def __init__(self, database: Database, intent: str) -> None:
        self._database = database
        self._intent = intent

    def __getitem__(self, key: str) -> Any:
        with self._database.read() as sql:
            row = first(sql, "SELECT value FROM scratch WHERE intent = ? AND key = ?", self._intent, key)
            if row is not None:
                with readable_rows():
                    return parse_json(row["value"], object)
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        with self._database.write() as sql:
            sql.execute(
                "INSERT INTO scratch (intent, key, value) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET value = excluded.value",
                (self._intent, key, json.dumps(value)),
            )

    def __delitem__(self, key: str) -> None:
        with self._database.write() as sql:
            done = sql.execute("DELETE FROM scratch WHERE intent = ? AND key = ?", (self._intent, key))
        if not done.rowcount:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        with self._database.read() as sql:
            rows = sql.execute("SELECT key FROM scratch WHERE intent = ? ORDER BY key", (self._intent,)).fetchall()
        return iter([row["key"] for row in rows])

    def __len__(self) -> int:
        return sum(1 for _ in self)
