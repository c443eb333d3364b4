"""Whatever a server does: the right result or an error that says what to do; no traceback, no hang, few requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tuneport
from nasty import SCENARIOS
from tuneport import Dataset, TuneportError
from tuneport_openai import client, model, submit, upload
from tuneport_openai.job import LoopbackJob
from wire_server import WireServer


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits, of a length for tests."""
    monkeypatch.setattr(LoopbackJob, "poll_seconds", 0.01)
    monkeypatch.setattr(LoopbackJob, "outage_seconds", 1.5)
    monkeypatch.setattr(client, "_READ_RETRIES", 0)
    monkeypatch.setattr(client, "_READ_SECONDS", 1.0)
    monkeypatch.setattr(client, "_CREATE_SECONDS", 1.0)
    monkeypatch.setattr(model, "_MOST_FAILURES", 1)
    monkeypatch.setattr(model, "_ANSWER_SECONDS", 10.0)
    monkeypatch.setattr(upload, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(upload, "_PROCESS_SECONDS", 3.0)
    monkeypatch.setattr(submit.finish, "__defaults__", ((0.0, 0.01),))


def live(rows: Dataset) -> dict[str, TuneportError | None]:
    """Everything that is done with a job, in order; the error of each phase that had one."""
    from tuneport.cli.show import job_facts
    from tuneport.workflow import report as write_report

    met: dict[str, TuneportError | None] = {}

    def phase(name: str, act: Callable[[], Any]) -> Any:
        try:
            found = act()
        except TuneportError as error:
            met[name] = error
            return None
        met[name] = None
        return found

    job = phase("train", lambda: tuneport.train("lab:base", rows))
    if job is None:
        return met
    phase("wait", lambda: job.wait(on_event=lambda _: None))
    if met["wait"] is None:
        phase("events", lambda: list(job.events()))
        phase("show", lambda: job_facts(job))
        phase("report", lambda: write_report(job.ref))
    phase("checkpoints", job.checkpoints)
    phase("ask", lambda: job.result().reply("Question 1 about pin"))
    phase("stream", lambda: list(job.result().stream("Question 1 about pin")))
    if met["wait"] is None:
        phase("delete", lambda: tuneport.delete(job.ref))
    return met


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_nasty_server_is_answered_with_a_result_or_with_words(name: str, lab: WireServer, rows: Dataset) -> None:
    scenario = SCENARIOS[name]
    scenario.spoil(lab)
    met = live(rows)
    failed = {phase: error for phase, error in met.items() if error is not None}
    assert set(failed) == set(scenario.fails), {phase: error.message for phase, error in failed.items()}
    assert not scenario.says or any(scenario.says in str(error) for error in failed.values()), failed
    for error in failed.values():
        assert error.remedy
        assert len(error.message) < 2_000
    assert len(lab.asked) <= scenario.most
