"""A job's events, numbered once by its notebook: from the service's log, and from each change in what it reports.

A service without a log has events only where somebody looked, so an event that is made from a change has
`observed: true` in its data: its time is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tuneport.contract.events import Event, EventLevel, Status, utc_now
from tuneport.hosted.refusals import RefusedName

if TYPE_CHECKING:
    from tuneport.contract.notebook import Notebook
    from tuneport.hosted.http import Http
    from tuneport.hosted.reports import Entry, Report
    from tuneport.hosted.service import Service

_CURSOR = "cursor"
_STEP = 10  # percent of progress between two events


def status_of(service: Service, report: Report) -> Status:
    """Tuneport's status for the service's word; an unknown word does not end the job."""
    return service.words.get(report.word, Status.UNKNOWN)


def look_and_keep(service: Service, http: Http, notebook: Notebook, job_id: str) -> Report:
    """Ask about a job once, keep what is new as events, and return the report.

    Several processes may do so at once: each change becomes one event, and nothing follows the end.
    """
    while True:
        known = _statuses(notebook)
        report = service.look(http, job_id)
        if not status_of(service, report).terminal:
            _keep_change(service, notebook, report, known)
            keep_entries(service, http, notebook, report)
            return report
        keep_entries(service, http, notebook, report)  # nothing follows the end
        if _keep_change(service, notebook, report, known):
            return report


def keep_entries(service: Service, http: Http, notebook: Notebook, report: Report) -> None:
    """Keep the service's own log and metrics, from where the last look ended."""
    after = notebook.scratch.get(_CURSOR)
    last = after
    kept = []
    try:
        for entry in service.read_entries(http, report, after):
            kept.append((f"entry {entry.id}", _event(entry)))
            last = entry.id
    except RefusedName:  # there is no log yet: the job itself was found just now
        pass
    if kept:
        notebook.append(kept)
        notebook.scratch[_CURSOR] = last


def _keep_change(service: Service, notebook: Notebook, report: Report, known: list[Event]) -> bool:
    """Keep a new status; False where another process kept another one since `known` was read."""
    last = known[-1] if known else None
    if last is not None and last.data.get("status") in _ENDS:
        return True
    status, number = status_of(service, report), len(known) + 1
    if last is None or last.data.get("native") != report.word:
        events = [(f"status {number}", _status_event(service, report, status))]
        if status.terminal and report.started and not any(one.data.get("status") == Status.RUNNING for one in known):
            # Nobody looked while it ran, and the service says when it began.
            running = {"status": str(Status.RUNNING), "observed": True}
            event = Event(seq=0, time=report.started, kind="status", message="Training started.", data=running)
            events.insert(0, ("began", event))
        if not any("native" in one.data for one in notebook.append(events)):
            return False
    if report.percent is not None and not status.terminal:
        notebook.append(list(_progress(report)))
    return True


_ENDS = frozenset(str(one) for one in Status if one.terminal)


def _statuses(notebook: Notebook) -> list[Event]:
    return [one for one in notebook.events() if one.kind == "status" and "native" in one.data]


def _status_event(service: Service, report: Report, status: Status) -> Event:
    said = f": {report.message}" if report.message else ""
    level: EventLevel = "error" if status is Status.FAILED else "info"
    data: dict[str, Any] = {"native": report.word, "observed": True}
    if status is not Status.UNKNOWN:
        data["status"] = str(status)
    at = report.finished if status.terminal else None
    message = f"{service.title} reports {report.word}{said}"
    return Event(seq=0, time=at or utc_now(), kind="status", message=message, level=level, data=data)


def _progress(report: Report) -> Iterator[tuple[str, Event]]:
    passed = int(report.percent or 0) // _STEP * _STEP
    if passed:
        data = {"percent": passed, "observed": True}
        message = f"{passed}% done"
        yield f"progress {passed}", Event(seq=0, time=utc_now(), kind="log", message=message, data=data)


def _event(entry: Entry) -> Event:
    time: datetime = entry.time or utc_now()
    data = dict(entry.data) if entry.time else {**entry.data, "observed": True}
    return Event(seq=0, time=time, kind=entry.kind, message=entry.message, level=entry.level, data=data)
