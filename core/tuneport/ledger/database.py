"""One SQLite file, safe with many processes: opened, migrated, and every failure explained with a remedy."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuneport.errors import HomeError

BUSY_SECONDS = 30.0
_NETWORK = re.compile(
    r"(nfs\d?|cifs|smb\d?|smbfs|afs|ceph|lustre|gpfs|beegfs|davfs|ncpfs|pvfs2|orangefs|glusterfs"
    r"|fuse\.(sshfs|glusterfs|rclone|s3fs|gcsfuse|cephfs|davfs2?))\Z"
)


class Database:
    """Connections to one file, one for each thread of each process; sqlite's own locks keep them apart."""

    def __init__(self, path: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path, self._busy_seconds = path, busy_seconds
        self._local = threading.local()
        self._inherited: list[sqlite3.Connection] = []
        refuse_network(path)
        _refuse_special(path)
        with self._guard():
            self._migrate(self._connection())

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock from its beginning: all of it is kept, durably, or nothing."""
        with self._guard():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection to read from; each statement sees one state of the file."""
        with self._guard():
            yield self._connection()

    def close(self) -> None:
        """Close this thread's connection; the next use opens it again."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            connection.close()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None and self._local.pid != os.getpid():
            # A connection must not cross a fork, not even to be closed: the parent's is set aside for good.
            self._inherited.append(connection)
            connection = None
        if connection is None:
            connection = self._connect()
            self._local.connection, self._local.pid = connection, os.getpid()
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=self._busy_seconds, isolation_level=None)
        connection.row_factory = sqlite3.Row
        _use_wal(connection, self._busy_seconds)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        steps = migrations()
        newest = len(steps)
        if _version(connection) == newest:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = _version(connection)
            if found > newest:
                raise HomeError(
                    f"{self.path} was written by a newer tuneport (its version {found}; this one knows {newest}).",
                    remedy="Run: pip install -U tuneport, or set TUNEPORT_HOME to another folder.",
                )
            for step in steps[found:]:
                for statement in _statements(step.read_text(encoding="utf-8")):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version={newest}")
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise HomeError(
                f"The ledger {self.path} cannot be used: {error}.", remedy=_cure(error, self.path)
            ) from error


def first(sql: sqlite3.Connection, statement: str, *values: object) -> sqlite3.Row | None:
    """The first row of a query."""
    row: sqlite3.Row | None = sql.execute(statement, values).fetchone()
    return row


def migrations() -> list[Path]:
    """The SQL files that lead from each version of the database to the next, oldest first."""
    return sorted((Path(__file__).parent / "migrations").glob("*.sql"))


def refuse_network(path: Path, mounts: Path = Path("/proc/self/mounts")) -> None:
    """Raise HomeError when the path is on a network file system, as far as the table of mounts shows (Linux)."""
    try:
        table = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    target, best, kind = path.parent.resolve(), -1, ""
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1]))
        # Of two mounts on one point the later hides the earlier.
        if (target == point or point in target.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    if _NETWORK.match(kind):
        raise HomeError(
            f"The home folder {path.parent} is on a network file system ({kind}), whose locks cannot be relied on.",
            remedy="Set TUNEPORT_HOME to a folder on a local disk.",
        )


def _refuse_special(path: Path) -> None:
    """Raise HomeError for a pipe or a device, for which SQLite reports only a failure, or waits without end.

    Never opens the file: to close it again would drop the locks that this process's other connections hold on it
    (https://www.sqlite.org/howtocorrupt.html, 2.2), and another process could then delete their write-ahead log.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        why = error.strerror or error
        raise HomeError(f"The ledger {path} cannot be used: {why}.", remedy=_cure(error, path)) from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of a folder, sqlite's own error leads to the cure
        raise HomeError(f"The ledger {path} cannot be used: it is not a regular file.", remedy=_cure(OSError(), path))


def _use_wal(connection: sqlite3.Connection, seconds: float) -> None:
    # Switching a new file to WAL needs it alone, and sqlite gives up at once there instead of waiting.
    deadline = time.monotonic() + seconds
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
            continue
        if mode != "wal":
            raise sqlite3.OperationalError("its file system does not allow write-ahead logging")
        return


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # some failures, such as a full disk, have rolled back already
        connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _statements(script: str) -> Iterator[str]:
    # executescript() would commit the transaction that must hold the complete migration.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def readable_rows() -> Iterator[None]:
    """Turn errors from reading a row's columns into a DatabaseError: the row is damaged."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).partition("\n")[0]
        raise sqlite3.DatabaseError(f"a row of it is malformed: {problem}") from error


def parse_json(text: str, kind: type[Any] = dict) -> Any:
    """The JSON value in a column, which is of that kind; for use inside of `readable_rows`."""
    value = json.loads(text)
    if not isinstance(value, kind):
        raise ValueError(f"{type(value).__name__} instead of {kind.__name__}")
    return value


def _cure(error: Exception, path: Path) -> str:
    text = str(error).lower()
    if path.is_dir():
        return f"There is a folder in place of the file. Move it away: mv '{path}' '{path}.old'"
    if "locked" in text or "busy" in text:
        return "Another process is using it. Wait for it, or find it by running fuser -v on that file. Then try again."
    if "full" in text or "disk i/o" in text:
        return "Is the disk full? Free some space, then try again; `tuneport prune` frees more. Its content is safe."
    if "readonly" in text or "unable to open" in text or "permission" in text:
        return "Make the folder writable for you, or set TUNEPORT_HOME to a folder on a local disk that is."
    if "malformed" in text or "not a database" in text or "utf-8" in text or "corrupt" in text:
        return (
            f"The file is damaged. Move it and its -wal and -shm files away: mv '{path}' '{path}.damaged'. The next "
            f"command starts an empty ledger. The jobs' folders and models stay in {path.parent}; a model there can be "
            "named by its path."
        )
    return "Set TUNEPORT_HOME to a folder on a local disk, or report this with the message above."
