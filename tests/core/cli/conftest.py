"""The command line, typed as a user types it, over a stranger's small backend."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_line import Cli, as_json
from tuneport.cli.app import invoke


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    from tuneport.terminal import outlet

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def typed(*arguments: str | Path) -> tuple[int, str, str]:
        outlet.console.cache_clear()
        code = invoke([str(one) for one in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return typed


@pytest.fixture
def ran(cli: Cli, tickets: Path) -> str:
    """The ref of a job that a run has carried to its end."""
    found = as_json(cli, "run", tickets, "--model", "parrot:grey", "--holdout", "0")
    return str(found["ref"])


@pytest.fixture
def process(tmp_path: Path, tickets: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.Popen[str]]:
    """Starts the command line as a process of its own in the folder of the tickets, with its streams as pipes."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))

    def started(*arguments: str | Path, **streams: Any) -> subprocess.Popen[str]:
        piped = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
        command = [sys.executable, "-m", "tuneport.cli", *map(str, arguments)]
        return subprocess.Popen(command, cwd=tmp_path, text=True, **piped)

    return started
