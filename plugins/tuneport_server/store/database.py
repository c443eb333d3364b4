"""One SQLite file: opening and migrating it, transactions, and errors that say what to do."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuneport.errors import HomeError
from tuneport_server.store.schema import MIGRATIONS

Row = Mapping[str, Any]


class Database:
    """One connection, used by one thread at a time. What a method wrote is on the disk when it returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        with self._guard():
            self._sql = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
            self._sql.row_factory = sqlite3.Row
            self._sql.execute("PRAGMA journal_mode=WAL")
            self._sql.execute("PRAGMA synchronous=FULL")
            self._migrate()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything written inside is kept, or nothing of it. Transactions can be nested."""
        with self._lock, self._guard():
            if self._sql.in_transaction:
                yield
                return
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:
                    self._sql.execute("ROLLBACK")
                raise

    def rows(self, statement: str, *values: object) -> list[Row]:
        """Return all rows of a query."""
        with self._lock, self._guard():
            return self._sql.execute(statement, values).fetchall()

    def row(self, statement: str, *values: object) -> Row | None:
        """Return the first row of a query."""
        with self._lock, self._guard():
            found: Row | None = self._sql.execute(statement, values).fetchone()
            return found

    def change(self, statement: str, *values: object) -> int:
        """Execute a statement that writes. Returns the number of rows that it changed."""
        with self.transaction():
            return self._sql.execute(statement, values).rowcount

    def insert(self, table: str, **values: object) -> None:
        """Add a row."""
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        self.change(f"INSERT INTO {table} ({names}) VALUES ({marks})", *values.values())  # noqa: S608 - our own names

    def update(self, table: str, id_: str, **values: object) -> None:
        """Set columns of the row with that id."""
        sets = ", ".join(f"{name} = ?" for name in values)
        self.change(f"UPDATE {table} SET {sets} WHERE id = ?", *values.values(), id_)  # noqa: S608 - our own names

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._sql.close()

    def _migrate(self) -> None:
        with self.transaction():
            (version,) = self._sql.execute("PRAGMA user_version").fetchone()
            if version > len(MIGRATIONS):
                raise HomeError(
                    f"{self.path} was written by a newer tuneport.", remedy="Run: pip install -U 'tuneport[server]'"
                )
            for script in MIGRATIONS[version:]:
                for statement in filter(str.strip, script.split(";")):  # executescript would commit in between
                    self._sql.execute(statement)
            self._sql.execute(f"PRAGMA user_version={len(MIGRATIONS)}")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise HomeError(
                f"The server's file {self.path.name} cannot be used: {error}.", remedy=_remedy(error, self.path)
            ) from error


def _remedy(error: Exception, path: Path) -> str:
    text = str(error).lower()
    if path.is_dir():
        return f"There is a folder at the file's path. Move it away: mv '{path}' '{path}.old'"
    if "malformed" in text or "not a database" in text or "utf-8" in text or "corrupt" in text:
        return (
            f"The file is damaged. Move it and its -wal and -shm files away: mv '{path}' '{path}.damaged'. The next "
            "server starts without access tokens, files and jobs. The trainings are kept: tuneport jobs"
        )
    if "readonly" in text or "unable to open" in text or "permission" in text:
        return f"Make {path.parent} writable for you, or set TUNEPORT_HOME to another folder."
    return f"Check that the disk is not full and that no other program uses {path}."
