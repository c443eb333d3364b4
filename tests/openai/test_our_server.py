"""The wire's two ends together: this plugin against a real `tuneport serve`, with what can go wrong between them."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("starlette", reason="needs the server's extra: pip install 'tuneport[server]'")

import tuneport
from fault_proxy import AFTER, FAULTS, FaultProxy
from serving import Served, install_parrot
from tuneport import Dataset, Status
from tuneport.errors import JobNotFinished
from tuneport_openai.job import HostedJob


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    site = install_parrot(folder / "site")
    server = Served(folder / "home", "--models", "base=parrot:gray", site=site)  # codespell:ignore gray
    yield server.start()
    if server.process is not None:
        server.kill()


@pytest.fixture
def ours(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The server as the backend `lab`."""
    from tuneport import loader
    from tuneport_openai.wire import profiles

    monkeypatch.setenv("LAB_API_KEY", served.token)
    profiles.add("lab", served.url)
    loader.load.cache_clear()
    yield served
    loader.load.cache_clear()


def test_ten_lines_train_compare_and_ask_through_our_own_server(ours: Served, rows: Dataset) -> None:
    train, holdout = rows.split(holdout=0.2)
    job = tuneport.train("lab:base", train, epochs=1, suffix="topics")
    model = job.wait()
    known = next(iter(train)).messages
    assert model.ask(known[0].text) == known[1].text
    assert tuneport.compare(model, holdout, base=False).rows == len(holdout)
    assert "".join(model.stream(known[0].text)) == known[1].text
    events = list(job.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert any("train_loss" in row for row in job.metrics())
    assert job.state().status is Status.SUCCEEDED
    assert any("the model" in line for line in tuneport.delete(job.ref).removed)


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_between_the_two_starts_two_jobs(
    fault: str, ours: Served, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneport import loader
    from tuneport_openai.wire import profiles

    proxy = FaultProxy(ours.url, timeout=1.2)
    proxy.fault, proxy.lag = fault, 1
    limits = ("poll_seconds=0.05", "retry_seconds=0.1", "search_seconds=0.1", "create_seconds=1")
    profiles.add("lab", proxy.url, limits=limits)
    loader.load.cache_clear()
    with contextlib.suppress(JobNotFinished):
        tuneport.train("lab:base", rows, suffix="faulted", again=True)
    (job,) = tuneport.jobs()
    scratch = tuneport.plugin.open_notebook(job.ref).scratch
    intent = scratch["request"]["intent"]
    there = [one.id for one in ours.client().fine_tuning.jobs.list(metadata={"tuneport_intent": intent})]
    assert len(there) == (1 if fault in AFTER else 0)
    assert scratch.get("job") in (None, *there)
    assert ("job" in scratch) == (fault in AFTER)
    proxy.close()


def test_waiting_outlasts_a_server_that_is_killed_and_started_again(ours: Served, rows: Dataset) -> None:
    job = tuneport.train("lab:base", rows, suffix="killed")
    assert isinstance(job, HostedJob)
    ours.kill()
    starter = threading.Timer(1.0, ours.start)
    starter.start()
    try:
        assert job.wait(timeout=60).ask("Question 1 about pin") == "pin"
    finally:
        starter.join()


PAIRS = [
    {
        "input": {"messages": [{"role": "user", "content": f"Hello {n}"}]},
        "preferred_output": [{"role": "assistant", "content": f"Good day {n}"}],
        "non_preferred_output": [{"role": "assistant", "content": f"Go away {n}"}],
    }
    for n in range(12)
]
QUESTIONS = [{"question": f"What is {n}?", "answer": f"{n} is a number"} for n in range(12)]
GRADER = {
    "type": "string_check",
    "name": "same",
    "input": "{{sample.output_text}}",
    "reference": "{{item.reference_answer}}",
    "operation": "eq",
}


@pytest.mark.parametrize(
    ("method", "data", "settings"), [("dpo", PAIRS, {}), ("reinforcement", QUESTIONS, {"grader": GRADER})]
)
def test_a_method_that_the_servers_backend_lacks_is_refused_in_its_own_words(
    method: Literal["dpo", "reinforcement"], data: list[Any], settings: dict[str, Any], ours: Served
) -> None:
    with pytest.raises(tuneport.errors.UsageError, match=method):
        tuneport.train("lab:base", Dataset.load(data), method=method, settings=settings)
    assert [job.status for job in tuneport.jobs()] == [Status.FAILED]


CONFIG = """\
model: {backend}
data: {{train: rows.jsonl, holdout: 0.2}}
train: {{epochs: 1, suffix: topics}}
compare: {{base: false}}
"""


def test_the_same_config_file_runs_here_and_there_with_one_word_changed(
    ours: Served, rows: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneport import loader

    monkeypatch.syspath_prepend(str(ours.home.parent / "site"))
    loader.load.cache_clear()
    rows.write(tmp_path / "rows.jsonl")
    results = []
    for backend in ("parrot:gray", "lab:base"):  # codespell:ignore gray
        config = tmp_path / f"{backend.partition(':')[0]}.yaml"
        config.write_text(CONFIG.format(backend=backend))
        results.append(tuneport.run(config))
    here, there = results
    assert here.comparison is not None
    assert there.comparison is not None
    assert (here.comparison.rows, here.comparison.tuned.right) == (there.comparison.rows, there.comparison.tuned.right)
    assert here.report is not None
    assert there.report is not None
    assert json.loads(json.dumps(there.to_dict()))["state"]["status"] == "succeeded"
