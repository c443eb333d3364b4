"""Files of all owners, for the work between requests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tuneport_server.store.database import Database, Row

_UNCHECKED = "status = 'uploaded' AND id IN (SELECT id FROM present UNION SELECT file FROM held)"
_NEXT = (  # the oldest of each owner, except for the files in a JSON array
    f"SELECT id, owner, min(n) AS n FROM files WHERE {_UNCHECKED}"  # noqa: S608 - our own words
    " AND id NOT IN (SELECT value FROM json_each(?)) GROUP BY owner"
)


class Files:
    """The table of files and that of their checks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, id_: str) -> Row | None:
        """Return a file, also one that was deleted."""
        return self._database.row("SELECT * FROM files WHERE id = ?", id_)

    def present_ids(self) -> set[str]:
        """Return the ids of the files that are neither deleted nor expired."""
        return {row["id"] for row in self._database.rows("SELECT id FROM present")}

    def expired_ids(self, now: int) -> list[str]:
        """Return the ids of the files whose time is over and that are not deleted yet."""
        found = self._database.rows("SELECT id FROM files WHERE deleted IS NULL AND expires <= ?", now)
        return [row["id"] for row in found]

    def add(self, id_: str, owner: str, **values: object) -> None:
        """Add a file whose bytes are in place."""
        self._database.insert("files", id=id_, owner=owner, **values)

    def mark_deleted(self, id_: str, now: int) -> None:
        """Mark a file as deleted."""
        self._database.update("files", id_, deleted=now)

    def list_held(self, file: str | None = None) -> list[Row]:
        """Return `file`, `job` and `param` for each file, or this one, that a job needs and has not used yet."""
        if file is None:
            return self._database.rows("SELECT * FROM held")
        return self._database.rows("SELECT * FROM held WHERE file = ?", file)

    def next_to_check(self, passed: Sequence[str]) -> list[Row]:
        """Return `id`, `owner` and `n` of each owner's oldest unchecked file, except for the ids in `passed`."""
        return self._database.rows(_NEXT, json.dumps(passed))

    def is_unchecked(self, id_: str) -> bool:
        """Is the file still to be checked?"""
        statement = f"SELECT 1 FROM files WHERE id = ? AND {_UNCHECKED}"  # noqa: S608 - our own words
        return self._database.row(statement, id_) is not None

    def check(self, id_: str) -> dict[str, Any] | None:
        """Return the result of a file's check; None until it is known."""
        row = self._database.row("SELECT result FROM checks WHERE file = ?", id_)
        return None if row is None else json.loads(row["result"])

    def add_check(self, id_: str, result: Mapping[str, Any]) -> None:
        """Store the result of a file's check, and set the file's status."""
        details = result["details"]
        with self._database.transaction():
            self._database.change("INSERT OR REPLACE INTO checks VALUES (?, ?)", id_, json.dumps(result))
            status = "processed" if details is None else "error"
            self._database.update("files", id_, status=status, details=details, refused=int(result["refused"]))
