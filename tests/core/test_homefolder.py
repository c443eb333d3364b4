"""A home folder that does not exist, and paths of users that do not exist."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tuneport
import tuneport.plugin
from command_line import Cli
from tuneport.cli.app import invoke

NOBODY = "~no-such-user-here"
# The system's answer for a user id that it does not know, as in a container that runs with --user 1234.
WITHOUT_ENTRY = """
import os, pwd, sys
os.environ.pop("HOME", None)
def unknown(uid): raise KeyError(uid)
pwd.getpwuid = unknown
from tuneport.cli.app import invoke
sys.exit(invoke(sys.argv[1:]))
"""


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')

    def typed(*arguments: str | Path) -> tuple[int, str, str]:
        code = invoke([str(one) for one in arguments])
        found = capsys.readouterr()
        return code, found.out, found.err

    return typed


@pytest.mark.parametrize("command", [["jobs"], ["models"], ["show", "torch:x"], ["doctor"], ["prune", "-y"]])
def test_without_home_and_passwd_entry_a_command_prints_the_remedy(command: list[str]) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in ("HOME", "TUNEPORT_HOME")}
    clean = {name: value for name, value in clean.items() if not name.startswith("XDG_")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ENTRY, *command], env=clean, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "TUNEPORT_HOME" in done.stdout + done.stderr


@pytest.mark.parametrize("place", [f"{NOBODY}/x", NOBODY, "/proc/nothing/here", "/dev/null/x"])
def test_an_impossible_home_is_an_error_with_the_usual_remedy(
    place: str, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", place)
    with pytest.raises(tuneport.errors.HomeError, match="Set TUNEPORT_HOME"):
        tuneport.plugin.home()
    code, _, err = cli("jobs")
    assert code == 1
    assert place in err
    assert "Set TUNEPORT_HOME" in err


@pytest.mark.parametrize(
    "command",
    [
        ["check", f"{NOBODY}/rows.jsonl"],
        ["fix", "rows.jsonl", "-o", f"{NOBODY}/new.jsonl"],
        ["run", f"{NOBODY}/tune.yaml"],
        ["plan", "rows.jsonl", "--model", f"torch:{NOBODY}/model"],
        ["plan", "rows.jsonl", "--model", "torch:smollm2-135m", "--holdout", f"{NOBODY}/rows.jsonl"],
        ["ask", f"torch:{NOBODY}/model", "hello"],
        ["serve", "--config", f"{NOBODY}/serve.yaml"],
        ["serve", "--models", f"one=torch:{NOBODY}/model"],
    ],
)
def test_a_path_of_an_unknown_user_is_a_one_line_error(command: list[str], cli: Cli) -> None:
    code, _, err = cli(*command)
    assert code == 2, err
    assert NOBODY[1:] in err
    assert "there is no user" in err


def test_a_config_with_a_path_of_an_unknown_user_is_an_error(cli: Cli) -> None:
    Path("tune.yaml").write_text(f"model: torch:smollm2-135m\ndata:\n  train: {NOBODY}/rows.jsonl\n")
    code, _, err = cli("plan", "tune.yaml")
    assert code == 2, err
    assert "there is no user" in err


def test_local_path_keeps_paths_without_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert tuneport.plugin.local_path("~/a") == Path("/somewhere/a")
    assert tuneport.plugin.local_path("a/~b") == Path("a/~b")
