"""A server with the parrot backend, for every test that needs one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Served, install_parrot


@pytest.fixture(scope="session")
def parrot_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_parrot(tmp_path_factory.mktemp("site") / "packages")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, parrot_site: Path) -> Iterator[Served]:
    """A server that tests share, each with its own access token."""
    served = Served(tmp_path_factory.mktemp("served") / "home", "--models", "gray=parrot:gray", site=parrot_site)
    yield served.start()
    served.end()
    assert "Traceback" not in served.stderr(), served.stderr()[-4000:]


@pytest.fixture
def own(tmp_path: Path, parrot_site: Path) -> Iterator[Served]:
    """A server for one test, which can kill it."""
    served = Served(tmp_path / "home", "--models", "gray=parrot:gray", site=parrot_site)
    yield served.start()
    if served.process is not None:
        served.end()


@pytest.fixture
def token(shared: Served, request: pytest.FixtureRequest) -> str:
    return shared.add_token("t" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12])


@pytest.fixture
def client(shared: Served, token: str):
    with shared.client(token, max_retries=0) as client:
        yield client
