"""What the server must not forget: tokens, files, jobs and their first events, in an SQLite file of its own."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuneport.errors import HomeError

_MIGRATIONS = (
    """
    CREATE TABLE tokens (
        name TEXT PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, created INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE files (
        n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, bytes INTEGER NOT NULL,
        created INTEGER NOT NULL, filename TEXT NOT NULL, purpose TEXT NOT NULL, deleted INTEGER
    ) STRICT;
    CREATE INDEX files_of ON files (owner, n);
    CREATE TABLE uploads (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, bytes INTEGER NOT NULL, filename TEXT NOT NULL, purpose TEXT NOT NULL,
        created INTEGER NOT NULL, expires INTEGER NOT NULL, status TEXT NOT NULL, file TEXT
    ) STRICT;
    CREATE TABLE parts (
        id TEXT PRIMARY KEY, upload TEXT NOT NULL, bytes INTEGER NOT NULL, lines INTEGER NOT NULL,
        created INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX parts_of ON parts (upload);
    CREATE TABLE jobs (
        n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
        created REAL NOT NULL, same TEXT NOT NULL, retry INTEGER NOT NULL,
        model TEXT NOT NULL, base TEXT NOT NULL, tuned TEXT NOT NULL UNIQUE,
        training_file TEXT NOT NULL, validation_file TEXT, request TEXT NOT NULL, metadata TEXT NOT NULL,
        want TEXT NOT NULL DEFAULT '', begun INTEGER NOT NULL DEFAULT 0, ref TEXT,
        status TEXT NOT NULL, over INTEGER NOT NULL DEFAULT 0,
        error TEXT, finished INTEGER, tokens INTEGER, result_file TEXT, removed INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX jobs_of ON jobs (owner, n);
    CREATE INDEX jobs_open ON jobs (over, n);
    CREATE INDEX jobs_same ON jobs (owner, same);
    CREATE TABLE events (
        job TEXT NOT NULL, part INTEGER NOT NULL, seq INTEGER NOT NULL, event TEXT NOT NULL,
        PRIMARY KEY (job, part, seq)
    ) STRICT, WITHOUT ROWID;
    """,
    "ALTER TABLE jobs ADD COLUMN samples TEXT",
    """
    ALTER TABLE files ADD COLUMN status TEXT NOT NULL DEFAULT 'uploaded';
    ALTER TABLE files ADD COLUMN details TEXT;
    ALTER TABLE files ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE files ADD COLUMN expires INTEGER;
    ALTER TABLE uploads ADD COLUMN file_seconds INTEGER;
    UPDATE files SET status = 'processed' WHERE purpose <> 'fine-tune';
    CREATE INDEX files_unchecked ON files (owner, n) WHERE status = 'uploaded';
    CREATE INDEX files_expiring ON files (expires) WHERE expires IS NOT NULL AND deleted IS NULL;
    CREATE TABLE checks (file TEXT PRIMARY KEY, result TEXT NOT NULL) STRICT;
    CREATE VIEW present AS SELECT * FROM files WHERE deleted IS NULL
        AND (expires IS NULL OR expires > CAST(strftime('%s', 'now') AS INTEGER));
    CREATE VIEW held AS SELECT training_file AS file, id AS job, 'training_file' AS param FROM jobs
        WHERE over = 0 AND ref IS NULL
        UNION ALL SELECT validation_file, id, 'validation_file' FROM jobs
        WHERE over = 0 AND ref IS NULL AND validation_file IS NOT NULL;
    """,
)

Row = Mapping[str, Any]


class Store:
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
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction, kept whole or not at all; it may stand inside another."""
        with self._lock, self._guard():
            if self._sql.in_transaction:
                yield self._sql
                return
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield self._sql
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:
                    self._sql.execute("ROLLBACK")
                raise

    def rows(self, statement: str, *values: object) -> list[Row]:
        """All rows of a query."""
        with self._lock, self._guard():
            return self._sql.execute(statement, values).fetchall()

    def row(self, statement: str, *values: object) -> Row | None:
        """The first row of a query."""
        with self._lock, self._guard():
            found: Row | None = self._sql.execute(statement, values).fetchone()
            return found

    def insert(self, table: str, **values: object) -> None:
        """One new row."""
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        with self.write() as sql:
            sql.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))  # noqa: S608 - our own names

    def update(self, table: str, id_: str, **values: object) -> None:
        """Columns of the row of that id."""
        sets = ", ".join(f"{name} = ?" for name in values)
        with self.write() as sql:
            sql.execute(f"UPDATE {table} SET {sets} WHERE id = ?", (*values.values(), id_))  # noqa: S608 - our own names

    def add_event(self, job: str, message: str, level: str = "info") -> None:
        """An event of the server's own, before or beside those of the training."""
        with self.write() as sql:
            (last,) = sql.execute(
                "SELECT coalesce(max(seq), 0) FROM events WHERE job = ? AND part = 0", (job,)
            ).fetchone()
            event = {"created_at": int(time.time()), "level": level, "message": message}
            sql.execute("INSERT INTO events VALUES (?, 0, ?, ?)", (job, last + 1, json.dumps(event)))

    def keep_events(self, job: str, events: Sequence[Mapping[str, Any]]) -> None:
        """The events of a training whose backend forgets them, by their numbers."""
        with self.write() as sql:
            sql.executemany(
                "INSERT OR IGNORE INTO events VALUES (?, 1, ?, ?)",
                [(job, number, json.dumps(event)) for number, event in enumerate(events, 1)],
            )

    def events(self, job: str, part: int) -> list[dict[str, Any]]:
        """What `add_event` (part 0) or `keep_events` (part 1) wrote."""
        found = self.rows("SELECT event FROM events WHERE job = ? AND part = ? ORDER BY seq", job, part)
        return [json.loads(one["event"]) for one in found]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._sql.close()

    def _migrate(self) -> None:
        with self.write() as sql:
            (version,) = sql.execute("PRAGMA user_version").fetchone()
            if version > len(_MIGRATIONS):
                raise HomeError(
                    f"{self.path} was written by a newer tuneport.", remedy="Run: pip install -U 'tuneport[server]'"
                )
            for script in _MIGRATIONS[version:]:
                for statement in filter(str.strip, script.split(";")):  # executescript would commit in between
                    sql.execute(statement)
            sql.execute(f"PRAGMA user_version={len(_MIGRATIONS)}")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise HomeError(
                f"The server's file {self.path.name} cannot be used: {error}.", remedy=_cure(error, self.path)
            ) from error


def _cure(error: Exception, path: Path) -> str:
    text = str(error).lower()
    if path.is_dir():
        return f"A folder stands where the file belongs. Move it away: mv '{path}' '{path}.old'"
    if "malformed" in text or "not a database" in text or "utf-8" in text or "corrupt" in text:
        return (
            f"The file is damaged. Move it and its -wal and -shm files away: mv '{path}' '{path}.damaged'. The next "
            "server starts without tokens, files and jobs; trainings stay: tuneport jobs"
        )
    if "readonly" in text or "unable to open" in text or "permission" in text:
        return f"Make {path.parent} writable for you, or set TUNEPORT_HOME to another folder."
    return f"Is the disk full, or another program busy with {path}?"
