"""Nothing that a server sends takes more than a bounded amount of memory or time, and an answer that breaks off is said
to have.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import tuneport
from nasty import (
    BUSY,
    CHAT,
    CONTENT,
    EVENTS,
    FILES,
    JOB,
    Scenario,
    completion,
    drip,
    endless,
    head,
    page,
    piece,
    reply,
    stream,
)
from tuneport import Dataset
from tuneport.cli.app import invoke
from tuneport.terminal import outlet
from wire_server import WireServer

MOST_MEGABYTES = 500
QUICK = ("poll_seconds=0.01", "retry_seconds=0", "retries=0")
CONFIG = "model: lab:base\ndata: {train: rows.jsonl}\ntrain: {epochs: 3, suffix: topics}\n"
CHILD = """
import sys, time, tuneport
started, (kind, ref) = time.monotonic(), sys.argv[1:]
try:
    if kind == "ask":
        tuneport.open_model("lab:base").ask("hello")
    elif kind == "stream":
        list(tuneport.open_model("lab:base").stream("hello"))
    elif kind == "train":
        tuneport.train("lab:base", tuneport.Dataset.load("rows.jsonl"))
    else:
        list(tuneport.open_job(ref).events())
    said = "nothing"
except tuneport.TuneportError as error:
    said = error.message
# Not ru_maxrss, which starts at the peak of the process that started this one.
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024
print(f"{peak}|{time.monotonic() - started:.1f}|{said}")
"""


@cache
def three_gigabytes() -> bytes:
    """A gzip body of 3 MB that expands to 3 GB; the server never ends it, so that it needs no checksum."""
    machine = zlib.compressobj(9, wbits=31)
    first = machine.compress(b'{"id": "') + machine.flush(zlib.Z_FULL_FLUSH)
    machine.compress(bytes(2**20)) + machine.flush(zlib.Z_FULL_FLUSH)
    again = machine.compress(b" " * 2**20) + machine.flush(zlib.Z_FULL_FLUSH)
    return first + again * 3_000


def bomb(handler: Any) -> None:
    head(handler, encoding="gzip")
    handler.wfile.write(three_gigabytes())


def table_bomb(handler: Any) -> None:
    head(handler, "text/csv", encoding="gzip")
    handler.wfile.write(three_gigabytes())


HUGE = {
    "a bomb as answer": ("ask", CHAT, bomb, "larger than"),
    "an answer that never ends": ("ask", CHAT, endless(), "larger than"),
    "an answer that expands for ever": ("ask", CHAT, endless(encoding="gzip"), "larger than"),
    "a refusal that never ends": (
        "ask",
        CHAT,
        drip(b"HTTP/1.1 400 No\r\nContent-Type: text/plain\r\n\r\n", b"no " * 9_000, 0),
        "(400): no no",
    ),
    "a stream that never ends": (
        "stream",
        CHAT,
        endless("text/event-stream", b'data: {"a": "%s"}\n\n' % (b"x" * 9_000)),
        "larger than",
    ),
    "a line that never ends": ("stream", CHAT, endless("text/event-stream", b"data: " + b"1" * 90_000), "a line of"),
    "a list that never ends": ("train", FILES, endless(piece=b'{"data": [' + b'{"id": "x"},' * 9_000), "larger than"),
    "events that never end": ("events", EVENTS, endless(), "nothing"),
    "a result file that expands": ("events", CONTENT, table_bomb, "nothing"),
    "a result file that never ends": ("events", CONTENT, endless("text/csv", b"1,2\n" * 9_000), "nothing"),
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", HUGE)
def test_memory_is_bounded_whatever_a_server_sends(name: str, lab: WireServer, rows: Dataset, tmp_path: Path) -> None:
    kind, route, act, says = HUGE[name]
    rows.write(tmp_path / "rows.jsonl")
    ref = "lab:none"
    if kind == "events":
        job = tuneport.train("lab:base", rows)
        while not job.status.terminal:
            pass
        ref = str(job.ref)
    Scenario(route, act).spoil(lab)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, kind, ref], capture_output=True, text=True, timeout=200, cwd=tmp_path, check=False
    )
    peak, _, said = done.stdout.partition("|")
    assert done.returncode == 0, done.stderr
    assert int(peak) < MOST_MEGABYTES, done.stdout
    assert says in said


@pytest.fixture
def limits() -> tuple[str, ...]:
    return QUICK


@pytest.fixture
def own_console() -> None:
    outlet.console.cache_clear()


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (stream(piece("so far")), "so far"),
        (stream(done=True), ""),
        (stream({"choices": []}, done=True), ""),
        (stream(piece("so far"), {"error": {"message": "out of memory"}}), "so far"),
        (reply(200, completion()), ""),  # a server that does not stream
    ],
)
def test_an_answer_without_an_end_is_an_error(
    answer: Any, shown: str, lab: WireServer, own_console: None, capfd: pytest.CaptureFixture[str]
) -> None:
    Scenario(CHAT, answer).spoil(lab)
    assert invoke(["ask", "lab:base", "hello"]) == 1
    printed = capfd.readouterr()
    assert printed.out.strip() == shown
    assert "error:" in printed.err
    assert "Ask again" in printed.err or "Try again" in printed.err


def test_an_answer_without_a_choice_is_an_error_with_json_too(lab: WireServer, own_console: None, capfd: Any) -> None:
    Scenario(CHAT, reply(200, completion(choices=[]))).spoil(lab)
    assert invoke(["ask", "lab:base", "hello", "--json"]) == 1
    assert "without a choice" in json.loads(capfd.readouterr().out)["error"]["message"]


@pytest.mark.parametrize("act", [reply(429, BUSY), page(503, "maintenance"), page(200, "please wait")])
def test_a_run_continues_when_the_server_is_busy_for_a_while(
    act: Any,
    lab: WireServer,
    rows: Dataset,
    own_console: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    rows.write("rows.jsonl")
    Path("tune.yaml").write_text(CONFIG)
    Scenario(JOB, act, times=3, then=(Scenario(EVENTS, act, times=3),)).spoil(lab)
    assert invoke(["run", "tune.yaml"]) == 0, capfd.readouterr().err


@pytest.mark.parametrize("limits", [(*QUICK, "outage_seconds=0.5")])
@pytest.mark.parametrize("verb", ["run", "watch"])
def test_an_outage_that_lasts_leaves_the_job_and_says_that_it_continues(
    verb: str,
    lab: WireServer,
    rows: Dataset,
    own_console: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    rows.write("rows.jsonl")
    Path("tune.yaml").write_text(CONFIG)
    lab.flow = ("running",)
    assert invoke(["run", "tune.yaml", "--no-wait"]) == 0
    (job,) = tuneport.jobs()
    Scenario(JOB, reply(429, BUSY, Retry_After="0.01")).spoil(lab)
    capfd.readouterr()
    assert invoke(["run", "tune.yaml"] if verb == "run" else ["watch", str(job.ref)]) == 3
    assert "The job continues" in capfd.readouterr().err
    lab.spoil, lab.flow = None, ("running", "succeeded")
    assert invoke(["run", "tune.yaml"]) == 0


def test_a_wait_with_a_timeout_ends_in_an_outage_too(lab: WireServer, rows: Dataset, own_console: None) -> None:
    job = tuneport.train("lab:base", rows)
    Scenario(JOB, reply(429, BUSY)).spoil(lab)
    with pytest.raises(tuneport.errors.WaitTimeout, match="could not be read in"):
        job.wait(timeout=0.2)
    lab.spoil = None
    assert job.wait().ref == job.ref


@pytest.mark.parametrize("limits", [(*QUICK, "notice_seconds=0.05", "process_seconds=0.4")])
def test_a_wait_for_a_file_is_logged(lab: WireServer, rows: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    lab.file_looks = 10**6
    with pytest.raises(tuneport.errors.BackendError, match=r"still processing the file .* its status is 'uploaded'"):
        tuneport.train("lab:base", rows)
    assert "lab has been processing the file" in caplog.text


def test_a_text_that_cannot_be_sent_is_the_callers_fault(lab: WireServer, rows: Dataset) -> None:
    with pytest.raises(tuneport.errors.UsageError, match="lone surrogate"):
        tuneport.open_model("lab:base").ask("a\ud800b")
    with pytest.raises(tuneport.errors.UsageError, match="lone surrogate"):
        tuneport.open_model("lab:ba\udcffse").ask("hello")


def test_a_proxy_from_the_environment_is_still_used() -> None:
    """The bounds do not take the way to a server on the network from it: here a proxy that is not there."""
    from tuneport_openai.wire import profiles

    profiles.add("far", "https://gpu.example.org/v1", limits=["answer_retries=0"])
    code = "import tuneport; tuneport.open_model('far:gpt-x').ask('hello')"
    environment = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "FAR_API_KEY": "sk-nobodys-key-at-all"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "could not be reached at https://gpu.example.org/v1" in done.stderr
    assert "refused" in done.stderr
