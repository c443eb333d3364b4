"""Time in a queue is not training time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tuneport import Event
from tuneport.reports import ReportData, page
from tuneport.reports.times import Times, times_of

START = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def events(*statuses: tuple[float, str]) -> list[Event]:
    """Events at those seconds: of that status, or for `step` a metric."""
    made = []
    for seq, (seconds, word) in enumerate(statuses, 1):
        when, step = START + timedelta(seconds=seconds), word == "step"
        data: dict[str, Any] = {"step": seq} if step else {"status": word}
        made.append(Event(seq=seq, time=when, kind="metric" if step else "status", message=word, data=data))
    return made


STATE = {"created": START.isoformat(), "started": (START + timedelta(seconds=2)).isoformat()}


def test_queued_time_is_separate_from_working_time() -> None:
    found = events((1, "queued"), (2, "preparing"), (5, "queued"), (300, "preparing"), (310, "running"), (311, "step"))
    found += events((400, "step"), (402, "preparing"), (410, "succeeded"))
    assert times_of(found, STATE) == Times(worked=3 + 110, queued=2 + 295, idle=0)


def test_a_killed_process_worked_until_its_last_event() -> None:
    found = events((0, "queued"), (1, "running"), (50, "step"), (9_000, "queued"), (9_010, "running"), (9_050, "step"))
    found += events((9_060, "succeeded"))
    assert times_of(found, STATE) == Times(worked=49 + 50, queued=1 + 10, idle=8_950)


def test_a_pause_is_neither_queued_nor_working() -> None:
    found = events((0, "running"), (10, "paused"), (70, "queued"), (71, "running"), (80, "succeeded"))
    assert times_of(found, STATE) == Times(worked=19, queued=1, idle=60)


def test_a_running_job_is_counted_up_to_its_last_event() -> None:
    assert times_of(events((0, "queued"), (4, "running"), (30, "step")), STATE) == Times(worked=26, queued=4)
    assert times_of(events((0, "queued"), (4, "queued")), STATE) is None


def test_without_statuses_the_time_includes_the_queue_and_says_so() -> None:
    state = {**STATE, "status": "succeeded", "finished": (START + timedelta(seconds=62)).isoformat()}
    assert times_of([], state) == Times(worked=60, queued=None)
    assert "including the queue" in page(ReportData(ref="openai:x", created=START, state=state))
    assert times_of([], STATE) is None


def test_the_page_shows_queue_and_training_separately() -> None:
    found = events((0, "queued"), (180, "running"), (240, "succeeded"))
    html = page(ReportData(ref="torch:x", created=START, state={**STATE, "status": "succeeded"}, events=found))
    assert "Training time" in html
    assert "and 3 min 0 s queued" in html
