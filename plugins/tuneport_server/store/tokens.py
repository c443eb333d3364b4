"""The access tokens: their names and hashes."""

from __future__ import annotations

from tuneport_server.store.database import Database, Row


class Tokens:
    """The table of access tokens. Only hashes are stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Row]:
        """Return `name`, `sha256` and `created` (seconds since 1970) of each, oldest first."""
        return self._database.rows("SELECT name, sha256, created FROM tokens ORDER BY created, name")

    def add(self, name: str, sha256: str, created: int) -> bool:
        """Add a token. Returns False if the name is in use."""
        values = (name, sha256, created)
        return self._database.change("INSERT OR IGNORE INTO tokens VALUES (?, ?, ?)", *values) == 1

    def remove(self, name: str) -> bool:
        """Remove a token. Returns False if there is none with that name."""
        return self._database.change("DELETE FROM tokens WHERE name = ?", name) == 1
