"""The server's file: older ones are brought up to date, newer ones refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tuneport import HomeError
from tuneport_server.store import Store


def test_a_file_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "server.sqlite3"
    Store(path).close()
    with sqlite3.connect(path) as sql:
        sql.execute("ALTER TABLE jobs DROP COLUMN samples")
        sql.execute("PRAGMA user_version=1")
    sql.close()
    store = Store(path)
    assert store.rows("SELECT samples FROM jobs") == []
    store.close()


def test_a_newer_file_is_refused_politely(tmp_path: Path) -> None:
    path = tmp_path / "server.sqlite3"
    Store(path).close()
    with sqlite3.connect(path) as sql:
        sql.execute("PRAGMA user_version=99")
    sql.close()
    with pytest.raises(HomeError, match="newer tuneport"):
        Store(path)
