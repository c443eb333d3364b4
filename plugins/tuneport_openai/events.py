"""Events of a hosted job, fetched by cursor and numbered once; metrics also from the result file."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tuneport.errors import ConfigError, TuneportError, UnavailableError
from tuneport.plugin import Event, utc_now
from tuneport_openai.pages import Pages, identity_of, items_of
from tuneport_openai.refusals import printable
from tuneport_openai.removal import result_files_of
from tuneport_openai.results import ALSO, LARGEST_STEP, fetch_results
from tuneport_openai.words import time_of

if TYPE_CHECKING:
    from datetime import datetime

    from tuneport_openai.client import Wire
    from tuneport_openai.job import HostedJob

Found = TypeVar("Found")
_LEVELS: dict[str, Literal["warning", "error"]] = {"warn": "warning", "warning": "warning", "error": "error"}
_MOST, _MOST_PAGES = 100_000, 1_000
_LATE_SECONDS = 300  # how long after its end a job's events may still come in
_LONGEST_MESSAGE = 10_000


def fetch(job: HostedJob) -> None:
    """Bring the kept events up to date with the server.

    A note in the scratch follows what it is about: killed in between, the next call does both once more, and events
    that are there already are kept once.
    """
    scratch = job.scratch
    if scratch.get("told"):
        return
    state = job.state()
    seen = scratch.get("newest")
    now = state.finished or utc_now()
    read = _Reading(job, over=state.status.terminal)
    raw = read.bearing("The events", lambda: newer(job.wire, job.scratch["job"], seen))
    events = [(identity_of(one), event_of(one)) for one in raw]
    events += _change(job, printable(state.native or "unknown"), now)
    new = job.notebook.append(events)
    if raw:
        scratch["newest"] = identity_of(raw[-1])
    if state.status.terminal and not scratch.get("results_read"):
        found = read.bearing("The result file", lambda: list(_of_results(job, now)))
        new += job.notebook.append(found)
        scratch["results_read"] = not read.may_come
    new += job.notebook.append(read.remarks)
    late = (utc_now() - now).total_seconds() > _LATE_SECONDS
    if state.status.terminal and (late or not (new or read.may_come)):
        scratch["told"] = True


class _Reading:
    """Reads what a job can do without: its events and figures. A fault there is kept as a remark, and ends nothing."""

    def __init__(self, job: HostedJob, *, over: bool) -> None:
        self._job = job
        self._over = over
        self.may_come = False  # whether another look may find more
        self.remarks: list[tuple[str, Event]] = []

    def bearing(self, what: str, read: Callable[[], list[Found]]) -> list[Found]:
        """What was read, or nothing. A passing fault of a job that runs is raised: who waits asks again anyway."""
        try:
            return read()
        except TuneportError as error:
            if isinstance(error, ConfigError) or (isinstance(error, UnavailableError) and not self._over):
                raise
            self.may_come = self.may_come or error.passing
            if isinstance(error, UnavailableError) and error.passing:
                return []
            message = f"{what} could not be read: {error.message}"
            remark = Event(seq=0, time=utc_now(), kind="log", level="warning", message=message)
            self.remarks.append((f"unread {what} {type(error).__name__}", remark))
            return []


def _change(job: HostedJob, word: str, now: datetime) -> list[tuple[str, Event]]:
    """The server's word for the status, where it is not the last one that was told. Its number among the changes makes
    the id: a job that is paused runs twice, and two processes that see a change tell it once.
    """
    told = [event.message for event in job.notebook.events() if event.kind == "status"]
    if told and told[-1] == word:
        return []
    return [(f"status {len(told)} {word}", Event(seq=0, time=now, kind="status", message=word))]


def newer(wire: Wire, job_id: str, seen: str | None = None) -> list[Any]:
    """The server's events from about the one last seen on, oldest first, whichever way the server sorts."""
    found: list[Any] = []
    with wire.speaking("asking for events"):
        ask = wire.patient.fine_tuning.jobs.list_events
        page = ask(job_id, limit=100)
        rises = _rises(items_of(page))
        if rises and seen and page.has_next_page():
            page = ask(job_id, after=seen, limit=100)
        for new in Pages(page, most_pages=_MOST_PAGES, most_items=_MOST).pages():
            found += new
            if not rises and any(identity_of(one) == seen for one in new):
                break
    return found if rises else found[::-1]


def _rises(page: list[Any]) -> bool:
    """Whether events run from old to new; OpenAI's run from new to old, and so they are taken where times are equal."""
    times = [one.created_at for one in page if isinstance(one.created_at, int | float)]
    return len(times) > 1 and times[0] < times[-1]


def event_of(raw: Any) -> Event:
    """A server's event in tuneport's words, without its number."""
    data = raw.data if isinstance(raw.data, dict) else {}
    is_metric = raw.type == "metrics" or ("step" in data and "train_loss" in data)
    kind: Literal["metric", "log"] = "metric" if is_metric else "log"
    return Event(
        seq=0,
        time=time_of(raw.created_at) or utc_now(),
        kind=kind,
        level=_LEVELS.get(str(raw.level), "info"),
        message=printable(str(raw.message or ""))[:_LONGEST_MESSAGE],
        data=_metrics(data) if is_metric else _plain(data),
    )


def _metrics(data: dict[str, Any]) -> dict[str, Any]:
    """Numbers under the usual names; steps are whole, and what is no finite number is left out."""
    kept: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            continue
        if key in ("step", "total_steps"):
            if 0 <= value < LARGEST_STEP:
                kept[key] = int(value)
            continue
        kept[ALSO.get(key, key)] = value
    return kept


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if isinstance(value, str | int | bool) or value is None}


def _of_results(job: HostedJob, when: datetime) -> Iterator[tuple[str, Event]]:
    """Metrics of steps that no event told, from the result files."""
    told = {event.data.get("step") for event in job.notebook.events() if event.kind == "metric"}
    for file_id in result_files_of(job.scratch.get("final") or {}):
        for event in of_rows(fetch_results(job.wire, file_id), told, when):
            yield f"result {event.data['step']}", event


def of_rows(rows: Iterable[dict[str, Any]], told: Collection[object], when: datetime) -> Iterator[Event]:
    """Metric events of a result file's rows, without those steps that an event has told already."""
    for row in rows:
        if row["step"] not in told:
            yield Event(seq=0, time=when, kind="metric", message=f"step {row['step']}, from the result file", data=row)
