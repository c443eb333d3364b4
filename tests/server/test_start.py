"""What `tuneport serve` prints when it starts, and that it is true at that moment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serving import Served


def start_and_ask(served: Served, times: int) -> None:
    """Read `serving` from the process's output and connect at once, without retries."""
    for _ in range(times):
        served.port = 0
        served.start()
        with served.client(max_retries=0) as client:
            assert client.models.retrieve("gray").id == "gray"
        assert f"page     http://127.0.0.1:{served.port}/\n" in served.printed
        served.kill()


@pytest.fixture
def stopped(tmp_path: Path, parrot_site: Path) -> Served:
    return Served(tmp_path / "home", "--models", "gray=parrot:gray", site=parrot_site)


def test_a_server_that_prints_serving_answers_on_the_printed_port(stopped: Served) -> None:
    start_and_ask(stopped, 5)


@pytest.mark.soak
def test_a_server_that_says_it_serves_always_answers(stopped: Served) -> None:
    start_and_ask(stopped, 20)


def refused(served: Served, *arguments: str) -> str:
    with pytest.raises(subprocess.CalledProcessError) as error:
        served.run("serve", "--models", "gray=parrot:gray", *arguments)
    assert error.value.returncode == 2
    assert "serving" not in error.value.stdout
    return " ".join(error.value.stderr.split())


def test_the_error_for_a_port_in_use_names_another_tuneport_serve(shared: Served, stopped: Served) -> None:
    said = refused(stopped, "--port", str(shared.port))
    assert f"port {shared.port}: `tuneport serve` (process {shared.process.pid}) is already listening there" in said
    assert "Use that server, or choose another port: --port 0" in said
    with socket.create_server(("127.0.0.1", 0)) as other:
        said = refused(stopped, "--port", str(other.getsockname()[1]))
    assert "another program is already listening there" in said
    assert "Choose another port: --port 0" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--host", "192.0.2.1", "--port", "0"), "no such address"),
        (("--host", "no-such-host.invalid", "--port", "0"), "no such address"),
        (("--host", "::1", "--port", "0", "--limit", "connections=0"), "whole number above 0"),
    ],
)
def test_an_address_that_cannot_be_used_gets_a_remedy(stopped: Served, arguments, words: str) -> None:
    assert words in refused(stopped, *arguments)


def test_too_few_descriptors_are_refused_with_a_remedy(stopped: Served) -> None:
    limited = ["sh", "-c", 'ulimit -n 140; exec "$@"', "sh"]
    command = [*limited, sys.executable, "-m", "tuneport.cli", "serve", "--models", "gray=parrot:gray"]
    done = subprocess.run(command, env={**os.environ, **stopped._environment}, capture_output=True, text=True)
    assert done.returncode == 2
    assert "may open only 140 files" in done.stderr
    assert "ulimit -n 1024" in done.stderr
