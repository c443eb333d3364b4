"""Uploads in parts of all owners, for cleaning up."""

from __future__ import annotations

from tuneport_server.store.database import Database


class Uploads:
    """The tables of uploads and their parts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def part_ids(self) -> set[str]:
        """Return the ids of all parts."""
        return {row["id"] for row in self._database.rows("SELECT id FROM parts")}

    def expired_ids(self, now: int) -> list[str]:
        """Return the ids of the pending uploads whose time is over."""
        found = self._database.rows("SELECT id FROM uploads WHERE status = 'pending' AND expires < ?", now)
        return [row["id"] for row in found]

    def end(self, id_: str, status: str) -> list[str]:
        """Set the status of an upload if it is pending, and forget its parts. Returns the ids of those parts."""
        with self._database.transaction():
            if not self._database.change(
                "UPDATE uploads SET status = ? WHERE id = ? AND status = 'pending'", status, id_
            ):
                return []
            parts = self._database.rows("SELECT id FROM parts WHERE upload = ?", id_)
            self._database.change("DELETE FROM parts WHERE upload = ?", id_)
            return [row["id"] for row in parts]
