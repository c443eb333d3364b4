"""The example of a local backend, installed as a third-party plugin, and what its jobs leave behind."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "local_backend" / "tuneport_bayes.py"

Install = Callable[[str, str], None]


@pytest.fixture
def site(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a plugin (its name and source) for this process and the workers. No worker outlives the test."""
    from tuneport import loader

    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(str(folder))

    def install(name: str, source: str) -> None:
        (folder / f"{name}.py").write_text(source)
        information = folder / f"{name}-0.1.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
        (information / "entry_points.txt").write_text(f"[tuneport]\n{name} = {name}\n")
        installed.append(name)
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        loader.load.cache_clear()

    installed: list[str] = []
    yield install
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "tuneport.local.worker" in command and any(str(own_home) in part for part in command):
            process.send_signal(signal.SIGKILL)
    loader.load.cache_clear()
    for name in installed:
        sys.modules.pop(name, None)


@pytest.fixture
def bayes(site: Install) -> None:
    """The backend `bayes`."""
    site("tuneport_bayes", EXAMPLE.read_text())
