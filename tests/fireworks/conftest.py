"""Fireworks on loopback, and a home of each test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fireworks_rows import PAIRS, ROWS
from fireworks_schemas import KEY
from fireworks_server import FireworksServer
from tuneport import Dataset


@pytest.fixture
def server() -> Iterator[FireworksServer]:
    made = FireworksServer()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, server: FireworksServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The key and the address of the loopback server, and nothing of the machine's user."""
    monkeypatch.delenv("FIREWORKS_ACCOUNT_ID", raising=False)
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FIREWORKS_API_KEY", KEY)
    monkeypatch.setenv("FIREWORKS_BASE_URL", server.url)
    return tmp_path / "home"


@pytest.fixture
def rows() -> Dataset:
    return Dataset.load(ROWS)


@pytest.fixture
def pairs() -> Dataset:
    return Dataset.load(PAIRS)
