"""Nothing is started twice at Fireworks: not by faults, kills, threads, or processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

import tuneport
from dying import Killed, kill_at, start_and_settle
from fireworks_rows import ROWS
from fireworks_server import FireworksServer
from tuneport import Dataset
from tuneport.errors import JobError, JobNotFinished, TuneportError

MODEL = "fireworks:tiny-chat"
CREATE = "supervisedFineTuningJobs?"
AFTER = ("500 after", "reset after", "timeout after", "truncated after", "page after")
BEFORE = ("reset", "503", "page", "429")


@pytest.fixture(autouse=True)
def _short(server: FireworksServer) -> None:
    server.flow, server.slow_seconds = ("RUNNING", "COMPLETED"), 0.1


@pytest.mark.parametrize("kind", [*BEFORE, *AFTER])
def test_a_creation_that_fails_in_any_way_makes_one_job(server: FireworksServer, rows: Dataset, kind: str) -> None:
    server.break_next("POST", CREATE, kind)
    job = start_and_settle(MODEL, rows)
    assert len(server.jobs) == 1
    job.wait()


@pytest.mark.parametrize("kind", AFTER)
def test_a_doubt_is_resolved_by_sending_the_same_id_again(server: FireworksServer, rows: Dataset, kind: str) -> None:
    server.break_next("POST", CREATE, kind)
    tuneport.train(MODEL, rows)
    asked = [path for verb, path, *_ in server.asked if verb == "POST" and CREATE in path]
    assert len(asked) == 2
    assert len(set(asked)) == 1
    assert len(server.jobs) == 1


def test_a_start_that_nobody_can_confirm_is_unconfirmed_and_settles(server: FireworksServer, rows: Dataset) -> None:
    server.break_next("POST", CREATE, "reset after", times=5)
    with pytest.raises(JobNotFinished, match="may have been started") as caught:
        tuneport.train(MODEL, rows)
    job = tuneport.open_job(caught.value.ref)
    assert job.state().status == "unconfirmed"
    with pytest.raises(JobError):
        tuneport.train(MODEL, rows)
    with pytest.raises(JobNotFinished):
        job.cancel()
    tuneport.settle(caught.value.ref).wait()
    assert len(server.jobs) == 1


def test_a_refused_creation_is_no_doubt(server: FireworksServer, rows: Dataset) -> None:
    server.models.clear()
    with pytest.raises(TuneportError) as caught:
        tuneport.train(MODEL, rows)
    assert not isinstance(caught.value, JobError)
    assert not server.jobs


@pytest.mark.parametrize("kind", ["503", "500 after", "reset after", "page after"])
@pytest.mark.parametrize("part", ["/datasets", ":upload", "/accounts", "/models/"])
def test_every_other_request_may_fail_in_any_way(server: FireworksServer, rows: Dataset, part: str, kind: str) -> None:
    verb = "POST" if part in ("/datasets", ":upload") else "GET"
    server.break_next(verb, part, kind, times=2)
    start_and_settle(MODEL, rows).wait()
    assert len(server.jobs) == len(server.datasets) == 1


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(7))
def test_an_end_at_any_request_leaves_one_job(
    server: FireworksServer, rows: Dataset, monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool
) -> None:
    revive = kill_at(monkeypatch, number, after=after)
    with pytest.raises(Killed):
        tuneport.train(MODEL, rows)
    revive()
    start_and_settle(MODEL, rows).wait()
    assert len(server.jobs) == len(server.datasets) == 1


@pytest.mark.parametrize("kind", ["kill", "kill after"])
@pytest.mark.parametrize("part", [":upload", CREATE])
def test_a_killed_process_leaves_one_job(server: FireworksServer, rows: Dataset, part: str, kind: str) -> None:
    code = f"import sys, tuneport; sys.stdin.readline();tuneport.train({MODEL!r}, {ROWS!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    server.victim = process.pid
    server.break_next("POST", part, kind)
    process.communicate(b"\n")
    assert process.returncode == -signal.SIGKILL
    start_and_settle(MODEL, rows).wait()
    assert len(server.jobs) == len(server.datasets) == 1


def test_a_start_that_was_cut_off_resumes(
    server: FireworksServer, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    revive = kill_at(monkeypatch, 3, after=False)
    with pytest.raises(Killed):
        tuneport.train(MODEL, rows)
    revive()
    job = tuneport.open_job("last")
    assert job.state().status == "interrupted"
    job.resume()
    job.wait()
    assert len(server.jobs) == 1


def test_a_start_that_was_cut_off_can_be_cancelled_for_good(
    server: FireworksServer, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    revive = kill_at(monkeypatch, 3, after=False)
    with pytest.raises(Killed):
        tuneport.train(MODEL, rows)
    revive()
    job = tuneport.open_job("last")
    job.cancel()
    assert job.state().status == "cancelled"
    assert not server.jobs


def test_six_threads_start_one_job(server: FireworksServer, rows: Dataset) -> None:
    refs: list[str] = []
    threads = [threading.Thread(target=lambda: refs.append(str(start_and_settle(MODEL, rows).ref))) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(refs) == 6
    assert len(set(refs)) == len(server.jobs) == 1


def test_two_processes_start_one_job_under_faults(server: FireworksServer) -> None:
    server.break_next("POST", CREATE, "500 after")
    code = f"import tuneport; tuneport.train({MODEL!r}, {ROWS!r})"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [one.wait() for one in processes] == [0, 0]
    assert len(server.jobs) == len(server.datasets) == 1
    assert tuneport.open_job("last").wait() is not None
