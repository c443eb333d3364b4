"""Events of a hosted job, fetched by cursor and numbered once; metrics also come from the result file."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tuneport.errors import ConfigError, TuneportError, UnavailableError
from tuneport.plugin import Event, utc_now
from tuneport_openai.removal import result_files_of
from tuneport_openai.results import ALSO, LARGEST_STEP, fetch_results
from tuneport_openai.wire.pages import Pages, identity_of, items_of
from tuneport_openai.wire.refusals import printable
from tuneport_openai.wire.words import time_of

if TYPE_CHECKING:
    from datetime import datetime

    from tuneport.plugin import JobState, Notebook
    from tuneport_openai.wire.client import Wire

Found = TypeVar("Found")
_LEVELS: dict[str, Literal["warning", "error"]] = {"warn": "warning", "warning": "warning", "error": "error"}
_MOST, _MOST_PAGES = 100_000, 1_000
_LATE_SECONDS = 300  # how long after its end a job's events may still arrive
_LONGEST_MESSAGE = 10_000


def fetch(wire: Wire, notebook: Notebook, state: JobState) -> bool:
    """Bring the kept events up to date with the server. Returns whether no event can come later.

    `state` is the job's, read just now. Each note in the scratch is written after what it is about: if the process is
    killed in between, the next call repeats the work, and events that are already kept are kept once.
    """
    scratch = notebook.scratch
    seen = scratch.get("newest")
    now = state.finished or utc_now()
    reading = _Reading(is_over=state.status.terminal)
    raw = reading.attempt("The events", lambda: read_events(wire, scratch["job"], seen))
    events = [(identity_of(one), event_of(one)) for one in raw]
    events += _status_change(notebook, printable(state.native or "unknown"), now)
    new = notebook.append(events)
    if raw:
        scratch["newest"] = identity_of(raw[-1])
    if state.status.terminal and not scratch.get("results_read"):
        results = reading.attempt("The result file", lambda: list(_result_events(wire, notebook, now)))
        new += notebook.append(results)
        scratch["results_read"] = not reading.is_partial
    new += notebook.append(reading.remarks)
    is_late = (utc_now() - now).total_seconds() > _LATE_SECONDS
    return state.status.terminal and (is_late or not (new or reading.is_partial))


class _Reading:
    """Reads what a job can do without: its events and figures. A fault there becomes a remark and ends nothing."""

    def __init__(self, *, is_over: bool) -> None:
        self._is_over = is_over
        self.is_partial = False  # whether another attempt may find more
        self.remarks: list[tuple[str, Event]] = []

    def attempt(self, what: str, read: Callable[[], list[Found]]) -> list[Found]:
        """What was read, or nothing. Raises a passing fault of a running job: a caller that waits asks again anyway."""
        try:
            return read()
        except TuneportError as error:
            if isinstance(error, ConfigError) or (isinstance(error, UnavailableError) and not self._is_over):
                raise
            self.is_partial = self.is_partial or error.passing
            if isinstance(error, UnavailableError) and error.passing:
                return []
            message = f"{what} could not be read: {error.message}"
            remark = Event(seq=0, time=utc_now(), kind="log", level="warning", message=message)
            self.remarks.append((f"unread {what} {type(error).__name__}", remark))
            return []


def _status_change(notebook: Notebook, word: str, now: datetime) -> list[tuple[str, Event]]:
    """An event for the server's status, where it differs from the last one kept.

    The id is the number of the change: a job that is paused runs twice, and two processes that see the same change
    keep it once.
    """
    kept = [event.message for event in notebook.events() if event.kind == "status"]
    if kept and kept[-1] == word:
        return []
    return [(f"status {len(kept)} {word}", Event(seq=0, time=now, kind="status", message=word))]


def read_events(wire: Wire, job_id: str, seen: str | None = None) -> list[Any]:
    """The server's events from about the last one seen on, oldest first, in whichever order the server sorts."""
    found: list[Any] = []
    with wire.translate_errors("asking for events"):
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
    """Whether events run from old to new. OpenAI's run from new to old, which is assumed where the times are equal."""
    times = [one.created_at for one in page if isinstance(one.created_at, int | float)]
    return len(times) > 1 and times[0] < times[-1]


def event_of(raw: Any) -> Event:
    """A server's event as one of ours, without its number."""
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
    """Numbers under the usual names; steps are integers, and what is not a finite number is left out."""
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


def _result_events(wire: Wire, notebook: Notebook, when: datetime) -> Iterator[tuple[str, Event]]:
    """Metrics of the result files, for steps that no event covers."""
    known = {event.data.get("step") for event in notebook.events() if event.kind == "metric"}
    for file_id in result_files_of(notebook.scratch.get("final") or {}):
        for event in row_events(fetch_results(wire, file_id), known, when):
            yield f"result {event.data['step']}", event


def row_events(rows: Iterable[dict[str, Any]], known: Collection[object], when: datetime) -> Iterator[Event]:
    """Metric events of a result file's rows, except for the steps in `known`."""
    for row in rows:
        if row["step"] not in known:
            yield Event(seq=0, time=when, kind="metric", message=f"step {row['step']}, from the result file", data=row)
