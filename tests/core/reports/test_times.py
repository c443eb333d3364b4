"""Time in a queue is no time of training."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tuneport import Event
from tuneport.reports import ReportData, page
from tuneport.reports.times import Times, times_of

START = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def events(*told: tuple[float, str]) -> list[Event]:
    """Events at those seconds: of that status, or for `step` a metric."""
    made = []
    for seq, (seconds, word) in enumerate(told, 1):
        when, step = START + timedelta(seconds=seconds), word == "step"
        data: dict[str, Any] = {"step": seq} if step else {"status": word}
        made.append(Event(seq=seq, time=when, kind="metric" if step else "status", message=word, data=data))
    return made


STATE = {"created": START.isoformat(), "started": (START + timedelta(seconds=2)).isoformat()}


def test_waiting_for_a_device_is_apart_from_working() -> None:
    told = events((1, "queued"), (2, "preparing"), (5, "queued"), (300, "preparing"), (310, "running"), (311, "step"))
    told += events((400, "step"), (402, "preparing"), (410, "succeeded"))
    assert times_of(told, STATE) == Times(worked=3 + 110, queued=2 + 295, idle=0)


def test_a_killed_process_worked_until_its_last_event() -> None:
    told = events((0, "queued"), (1, "running"), (50, "step"), (9_000, "queued"), (9_010, "running"), (9_050, "step"))
    told += events((9_060, "succeeded"))
    assert times_of(told, STATE) == Times(worked=49 + 50, queued=1 + 10, idle=8_950)


def test_a_pause_is_neither() -> None:
    told = events((0, "running"), (10, "paused"), (70, "queued"), (71, "running"), (80, "succeeded"))
    assert times_of(told, STATE) == Times(worked=19, queued=1, idle=60)


def test_a_job_that_still_runs_is_told_up_to_its_last_event() -> None:
    assert times_of(events((0, "queued"), (4, "running"), (30, "step")), STATE) == Times(worked=26, queued=4)
    assert times_of(events((0, "queued"), (4, "queued")), STATE) is None


def test_without_statuses_the_queue_is_included_and_said_to_be() -> None:
    state = {**STATE, "status": "succeeded", "finished": (START + timedelta(seconds=62)).isoformat()}
    assert times_of([], state) == Times(worked=60, queued=None)
    assert "including the queue" in page(ReportData(ref="openai:x", created=START, state=state))
    assert times_of([], STATE) is None


def test_the_page_shows_queue_and_training_apart() -> None:
    told = events((0, "queued"), (180, "running"), (240, "succeeded"))
    shown = page(ReportData(ref="torch:x", created=START, state={**STATE, "status": "succeeded"}, events=told))
    assert "Training time" in shown
    assert "and 3 min 0 s queued" in shown
