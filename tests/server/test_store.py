"""The server's SQLite file: older ones are migrated, newer ones refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tuneport.errors import HomeError
from tuneport_server.store import Store


def test_a_file_of_the_first_version_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "server.sqlite3"
    Store(path).close()
    with sqlite3.connect(path) as sql:
        sql.execute("ALTER TABLE jobs DROP COLUMN samples")
        sql.execute("ALTER TABLE jobs RENAME COLUMN started TO begun")  # codespell:ignore
        for kind, name in (("VIEW", "present"), ("VIEW", "held"), ("INDEX", "files_unchecked")):
            sql.execute(f"DROP {kind} {name}")
        sql.execute("DROP INDEX files_expiring")
        sql.execute("DROP TABLE checks")
        for column in ("status", "details", "refused", "expires"):
            sql.execute(f"ALTER TABLE files DROP COLUMN {column}")
        sql.execute("ALTER TABLE uploads DROP COLUMN file_seconds")
        for id_, purpose in (("file-1", "fine-tune"), ("file-2", "fine-tune-results")):
            values = (id_, "me", 3, 1_700_000_000, "a.jsonl", purpose)
            sql.execute("INSERT INTO files (id, owner, bytes, created, filename, purpose) VALUES (?,?,?,?,?,?)", values)
        sql.execute("PRAGMA user_version=1")
    sql.close()
    store = Store(path)
    # Files that were never checked must be checked, except for those that the server itself made.
    files = store.of("me").files(order="asc")
    assert [row["status"] for row in files] == ["uploaded", "processed"]
    assert [row["id"] for row in store.files.next_to_check([])] == ["file-1"]
    assert store.of("me").jobs() == []
    store.close()


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "server.sqlite3"
    Store(path).close()
    with sqlite3.connect(path) as sql:
        sql.execute("PRAGMA user_version=99")
    sql.close()
    with pytest.raises(HomeError, match="newer tuneport"):
        Store(path)
