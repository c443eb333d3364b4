"""A server of the wire on loopback, a home of one's own, and a profile `lab` that leads there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tuneport import Dataset
from wire_server import KEY, WireServer

TOPICS = ("card", "pin", "refund", "fees", "limit", "transfer")
ROWS = [
    {"messages": [{"role": "user", "content": f"Question {n} about {topic}"}, {"role": "assistant", "content": topic}]}
    for n in range(4)
    for topic in TOPICS
]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No key, no address and no profile of the machine's user is ever seen here."""
    from tuneport import loader

    loader.load.cache_clear()
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAB_API_KEY", KEY)
    return tmp_path / "home"


@pytest.fixture
def server() -> Iterator[WireServer]:
    made = WireServer()
    yield made
    made.close()


@pytest.fixture
def limits() -> tuple[str, ...]:
    """Those of `lab`, as `profiles add --limit` takes them: a server on this machine need not be spared."""
    return ("poll_seconds=0.01", "retry_seconds=0")


@pytest.fixture
def lab(server: WireServer, limits: tuple[str, ...]) -> Iterator[WireServer]:
    """The server as the backend `lab`, added as a user does."""
    from tuneport import loader
    from tuneport_openai.wire import profiles

    profiles.add("lab", server.url, limits=limits)
    loader.load.cache_clear()
    yield server
    loader.load.cache_clear()


@pytest.fixture
def rows() -> Dataset:
    return Dataset.load(ROWS)
