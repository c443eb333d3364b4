"""The made-up service on loopback, announced by an installed plugin as any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from depot import KEY, DepotServer
from tuneport import loader


@pytest.fixture
def depot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DepotServer]:
    info = tmp_path / "site" / "depot-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: depot\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[tuneport]\ndepot = depot\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DEPOT_KEY", KEY)
    made = DepotServer()
    monkeypatch.setenv("DEPOT_URL", made.url)
    loader.load.cache_clear()
    yield made
    loader.load.cache_clear()
    made.close()
