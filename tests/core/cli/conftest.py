"""The command line, used as a user does, with a small third-party backend."""

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
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return typed


@pytest.fixture
def ran(cli: Cli, tickets: Path) -> str:
    """The ref of a job whose run has finished."""
    found = as_json(cli, "run", tickets, "--model", "parrot:gray", "--holdout", "0")
    return str(found["ref"])


@pytest.fixture
def process(tmp_path: Path, tickets: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.Popen[str]]:
    """Starts the command line as a separate process in the folder of the tickets, with pipes as its streams."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))

    def started(*arguments: str | Path, **streams: Any) -> subprocess.Popen[str]:
        piped = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
        command = [sys.executable, "-m", "tuneport.cli", *map(str, arguments)]
        return subprocess.Popen(command, cwd=tmp_path, text=True, **piped)

    return started
