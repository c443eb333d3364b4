"""What the server must not forget, in an SQLite file. Only this folder contains SQL.

Routes and pages get `store.of(owner)`; the work between requests uses the tables of all owners.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from tuneport.plugin import home
from tuneport_server.store.database import Database, Row
from tuneport_server.store.files import Files
from tuneport_server.store.jobs import SERVER_EVENTS, TRAINING_EVENTS, Jobs
from tuneport_server.store.owned import Owned, UnknownCursorError
from tuneport_server.store.tokens import Tokens
from tuneport_server.store.uploads import Uploads

__all__ = ["SERVER_EVENTS", "TRAINING_EVENTS", "Owned", "Row", "Store", "UnknownCursorError", "open_store"]


class Store:
    """The server's SQLite file. What a method wrote is on the disk when it returns."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path)
        self.tokens = Tokens(self._database)
        self.files = Files(self._database)
        self.uploads = Uploads(self._database)
        self.jobs = Jobs(self._database)

    def of(self, owner: str) -> Owned:
        """Return what one owner has."""
        return Owned(self._database, owner)

    def transaction(self) -> AbstractContextManager[None]:
        """Everything written inside is kept, or nothing of it."""
        return self._database.transaction()

    def bytes_used(self) -> int:
        """Return the bytes of all owners' files and parts that take room."""
        row = self._database.row(
            "SELECT (SELECT coalesce(sum(bytes), 0) FROM files"
            " WHERE id IN (SELECT id FROM present UNION SELECT file FROM held))"
            " + (SELECT coalesce(sum(bytes), 0) FROM parts) AS total"
        )
        return int(row["total"]) if row else 0

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def open_store() -> Store:
    """Open the store of this home; create it where needed. Raises HomeError."""
    return Store(home("server") / "server.sqlite3")
