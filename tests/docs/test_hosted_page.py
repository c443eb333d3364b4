"""The backend that docs/hosted.md shows works as shown, against a strict server."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import tuneport
from acme_server import KEY, AcmeServer
from tuneport import Dataset, loader
from tuneport.errors import BackendError, JobNotFinished, TuneportError, UsageError

PAGE = Path(__file__).parents[2] / "docs" / "hosted.md"
ROWS = [
    {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": "answer"}]}
    for n in range(5)
]


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AcmeServer]:
    site = tmp_path / "site"
    info = site / "tuneport_acme-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tuneport-acme\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[tuneport]\nacme = acme\n")
    shown = re.search(r"```python\n(# acme\.py\n.*?)```", PAGE.read_text(), re.DOTALL)
    assert shown is not None
    (site / "acme.py").write_text(shown[1])
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ACME_API_KEY", KEY)
    server = AcmeServer()
    monkeypatch.setenv("ACME_URL", server.url)
    loader.load.cache_clear()
    yield server
    loader.load.cache_clear()
    sys.modules.pop("acme", None)
    server.close()


def test_it_trains_answers_and_leaves_nothing(acme: AcmeServer, tmp_path: Path) -> None:
    plan = tuneport.plan("acme:small", ROWS, epochs=2)
    assert plan.usd.value is not None
    assert not acme.asked
    job = tuneport.train("acme:small", ROWS, epochs=2)
    model = job.wait()
    assert model.ask("Hello?") == "tuned-t2 answers"
    assert [one["train_loss"] for one in job.metrics()] == [3.0, 1.5, 1.0]
    assert job.state().details["usd"] == 0.25
    assert [one.partition(" at ")[0] for one in job.delete().removed[:3]] == [
        "the model tuned-t2",
        "the tune t2",
        "the train file f1",
    ]
    assert not acme.files
    assert not acme.tunes
    assert not acme.models
    assert not [one for one in tmp_path.rglob("*") if one.is_file() and KEY.encode() in one.read_bytes()]


@pytest.mark.parametrize("asked", ["GET /v1/files", "POST /v1/files", "POST /v1/tunes"])
@pytest.mark.parametrize(
    ("when", "what"), [("before", "lost"), ("before", "page"), ("after", "lost"), ("after", "page")]
)
def test_a_fault_never_starts_two(acme: AcmeServer, asked: str, when: str, what: str) -> None:
    acme.fault = (asked, when, what)
    for _ in range(2):
        try:
            tuneport.train("acme:small", ROWS).wait()
        except TuneportError:
            continue
    assert len(acme.files) == 1
    assert len(acme.tunes) == (0 if (asked, when) == ("POST /v1/tunes", "before") else 1)


def test_a_busy_service_gets_the_same_start_again(acme: AcmeServer) -> None:
    acme.fault = ("POST /v1/tunes", "before", "429")
    with pytest.raises(BackendError, match="Run the same command again"):
        tuneport.train("acme:small", ROWS)
    tuneport.train("acme:small", ROWS).wait()
    assert len(acme.tunes) == len(tuneport.jobs()) == 1


def test_a_start_in_doubt_is_not_repeated(acme: AcmeServer) -> None:
    acme.fault = ("POST /v1/tunes", "before", "lost")
    with pytest.raises(JobNotFinished, match="may have been started at Acme"):
        tuneport.train("acme:small", ROWS)
    with pytest.raises(JobNotFinished, match="tuneport settle"):
        tuneport.train("acme:small", ROWS)
    assert acme.asked.count("POST /v1/tunes") == 1


def test_six_threads_start_one(acme: AcmeServer) -> None:
    acme.fault = ("POST /v1/tunes", "after", "lost")
    rows, refs = Dataset.load(ROWS), []
    threads = [
        threading.Thread(target=lambda: refs.append(str(tuneport.train("acme:small", rows).ref))) for _ in range(6)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(refs) == 6
    assert len(set(refs)) == len(acme.tunes) == 1


def test_a_refusal_in_its_own_form_ends_the_start(acme: AcmeServer) -> None:
    acme.fault = ("POST /v1/tunes", "before", "400")
    with pytest.raises(UsageError, match="as ordered"):
        tuneport.train("acme:small", ROWS)
    tuneport.train("acme:small", ROWS).wait()


def test_a_file_that_another_tune_uses_stays(acme: AcmeServer) -> None:
    first, second = (tuneport.train("acme:small", ROWS, epochs=epochs) for epochs in (1, 2))
    first.wait()
    second.wait()
    assert first.delete().kept == ["the train file f1 at Acme: another tune uses it"]
    assert acme.files
    assert not second.delete().kept
    assert not acme.files


def test_cancel_may_be_repeated_and_come_too_late(acme: AcmeServer) -> None:
    job = tuneport.train("acme:small", ROWS)
    job.cancel()
    job.cancel()
    assert job.status == "cancelled"
    late = tuneport.train("acme:small", ROWS, epochs=2)
    late.wait()
    late.cancel()
    assert late.status == "succeeded"


def test_a_log_that_is_not_there_yet_is_no_error(acme: AcmeServer) -> None:
    acme.has_log = False
    job = tuneport.train("acme:small", ROWS)
    job.wait()
    assert job.metrics() == []


def test_a_wrong_key_is_not_repeated_in_the_message(acme: AcmeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_API_KEY", "not-the-key")
    with pytest.raises(TuneportError, match="does not accept the key in ACME_API_KEY") as caught:
        tuneport.train("acme:small", ROWS)
    assert "not-the-key" not in str(caught.value)
    assert "Create a key at https://acme.example/keys. Run: export ACME_API_KEY" in str(caught.value)
