"""`tuneport hosting`: what is billed now, and how it is started and stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import tuneport
from fireworks_server import FireworksServer
from tuneport import Dataset


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tuneport.cli", "hosting", *arguments]
    return subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)


@pytest.fixture
def ref(server: FireworksServer, rows: Dataset) -> str:
    server.flow = ("RUNNING", "COMPLETED")
    job = tuneport.train("fireworks:tiny-chat", rows)
    job.wait()
    return str(job.ref)


def test_a_deployment_is_started_listed_and_stopped(server: FireworksServer, ref: str) -> None:
    assert "Nothing is deployed." in _run().stdout
    assert "$7.00 an hour" in _run("start", ref).stdout
    listed = _run("--json")
    found = json.loads(listed.stdout)["deployments"]
    assert [(one["ref"], one["is_billed"], one["usd_per_hour"]["value"]) for one in found] == [(ref, True, 7.0)]
    assert f"tuneport hosting stop {ref}" in _run().stdout
    assert "no longer deployed" in _run("stop", ref).stdout
    assert "was not deployed" in _run("stop", ref).stdout
    assert not server.deployments


def test_a_service_that_cannot_answer_is_named_and_the_exit_code_says_so(server: FireworksServer) -> None:
    server.break_next("GET", "/deployments", "503", times=99)
    done = _run()
    assert done.returncode == 3
    assert "fireworks" in done.stderr
    assert json.loads(_run("--json").stdout)["unread"]


@pytest.mark.parametrize("arguments", [("begin", "x"), ("start",)])
def test_a_wrong_action_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    done = _run(*arguments)
    assert done.returncode == 2
    assert "tuneport hosting stop REF" in done.stderr


def test_models_say_which_are_not_deployed(ref: str) -> None:
    found = next(one for one in tuneport.models() if str(one.ref) == ref)
    assert "not deployed" in found.description
