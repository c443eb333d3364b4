"""Whatever a server does: the right result or an error that says what to do; no traceback, no hang, few requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tuneport
from nasty import SCENARIOS
from tuneport import Dataset
from tuneport.errors import TuneportError
from wire_server import WireServer


@pytest.fixture
def limits() -> tuple[str, ...]:
    """The same waits, of a length for tests."""
    seconds = {"poll": 0.01, "outage": 1.5, "read": 1, "create": 1, "answer": 10, "retry": 0, "process": 3}
    retries = ("retries=0", "answer_retries=1", "search_seconds=0.01")
    return (*(f"{name}_seconds={value}" for name, value in seconds.items()), *retries)


def live(rows: Dataset) -> dict[str, TuneportError | None]:
    """Everything that is done with a job, in order; the error of each phase that had one."""
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
        phase("show", lambda: tuneport.describe(job))
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
