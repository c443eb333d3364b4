"""Events of a hosted job, fetched by cursor and numbered once; metrics also from the result file."""

from __future__ import annotations

import base64
import binascii
import csv
import io
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from tuneport import Event, NotFoundError, deliver_events, keep_events, kept_events, utc_now
from tuneport_openai.client import printable
from tuneport_openai.words import time_of

if TYPE_CHECKING:
    from datetime import datetime

    from tuneport_openai.job import HostedJob

_LEVELS: dict[str, Literal["warning", "error"]] = {"warn": "warning", "warning": "warning", "error": "error"}
_MOST = 100_000
_LATE_SECONDS = 300  # how long after its end a job's events may still come in
_ALSO = {"train_accuracy": "train_mean_token_accuracy", "validation_mean_token_accuracy": "valid_mean_token_accuracy"}
_FIELDS = frozenset(
    {
        "train_loss",
        "train_mean_token_accuracy",
        "valid_loss",
        "valid_mean_token_accuracy",
        "full_valid_loss",
        "full_valid_mean_token_accuracy",
    }
)


def fetch(job: HostedJob) -> None:
    """Bring the kept events up to date with the server, and hand new ones to the observers.

    A note in the scratch follows what it is about: killed in between, the next call does both once more, and events
    that are there already are kept once.
    """
    scratch = job.scratch
    if scratch.get("told"):
        return
    state = job.state()
    seen = scratch.get("newest")
    raw = list(_newer(job, seen))
    events = [(str(one.id or f"{one.created_at} {one.message}"), _event(one)) for one in raw]
    now = state.finished or utc_now()
    events += _change(job, printable(state.native or "unknown"), now)
    new = keep_events(job.ref, events)
    if raw:
        scratch["newest"] = raw[-1].id
    if state.status.terminal and not scratch.get("results_read"):
        new += keep_events(job.ref, list(_of_results(job)))
        scratch["results_read"] = True
    job.delivering = True
    try:
        deliver_events(job)
    finally:
        job.delivering = False
    if state.status.terminal and ((utc_now() - now).total_seconds() > _LATE_SECONDS or not new):
        scratch["told"] = True


def _change(job: HostedJob, word: str, now: datetime) -> list[tuple[str, Event]]:
    """The server's word for the status, where it is not the last one that was told. Its number among the changes makes
    the id: a job that is paused runs twice, and two processes that see a change tell it once.
    """
    told = [event.message for event in kept_events(job.ref) if event.kind == "status"]
    if told and told[-1] == word:
        return []
    return [(f"status {len(told)} {word}", Event(seq=0, time=now, kind="status", message=word))]


def _newer(job: HostedJob, seen: str | None) -> list[Any]:
    """The server's events from about the one last seen on, oldest first, whichever way the server sorts."""
    found: list[Any] = []
    with job.wire.speaking("asking for events"):
        ask = job.wire.patient.fine_tuning.jobs.list_events
        page = ask(job.scratch["job"], limit=100)
        rises = _rises(page.data or [])
        if rises and seen and page.has_next_page():
            page = ask(job.scratch["job"], after=seen, limit=100)
        while True:
            found += page.data or []
            reached = not rises and any(one.id == seen for one in page.data or ())
            if reached or len(found) >= _MOST or not page.data or not page.has_next_page():
                break
            page = page.get_next_page()
    return found if rises else found[::-1]


def _rises(page: list[Any]) -> bool:
    """Whether events run from old to new; OpenAI's run from new to old, and so they are taken where times are equal."""
    times = [one.created_at for one in page if isinstance(one.created_at, int | float)]
    return len(times) > 1 and times[0] < times[-1]


def _event(raw: Any) -> Event:
    data = raw.data if isinstance(raw.data, dict) else {}
    is_metric = raw.type == "metrics" or ("step" in data and "train_loss" in data)
    kind: Literal["metric", "log"] = "metric" if is_metric else "log"
    return Event(
        seq=0,
        time=time_of(raw.created_at) or utc_now(),
        kind=kind,
        level=_LEVELS.get(str(raw.level), "info"),
        message=printable(str(raw.message or "")),
        data=_metrics(data) if is_metric else _plain(data),
    )


def _metrics(data: dict[str, Any]) -> dict[str, Any]:
    """Numbers under the usual names; steps are whole, and what is no finite number is left out."""
    kept: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            continue
        kept[_ALSO.get(key, key)] = int(value) if key in ("step", "total_steps") else value
    return kept


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if isinstance(value, str | int | bool) or value is None}


def _of_results(job: HostedJob) -> Iterator[tuple[str, Event]]:
    """Metrics of steps that no event told, from the result file."""
    when = job.state().finished or utc_now()
    final = job.scratch.get("final") or {}
    told = {event.data.get("step") for event in kept_events(job.ref) if event.kind == "metric"}
    for file_id in final.get("result_files") or ():
        try:
            with job.wire.speaking("reading the result file"):
                raw = job.wire.patient.files.content(file_id).read()
        except NotFoundError:
            continue
        for row in read_results(raw):
            if row["step"] not in told:
                message = f"step {row['step']}, from the result file"
                yield f"result {row['step']}", Event(seq=0, time=when, kind="metric", message=message, data=row)


def read_results(raw: bytes) -> list[dict[str, Any]]:
    """The rows of a result file that name a step, by header: OpenAI's and Azure's names become the same."""
    text = _text(raw)
    rows = []
    for line in csv.DictReader(io.StringIO(text)):
        data: dict[str, Any] = {}
        for key, value in line.items():
            name = _ALSO.get(key, key) if key else None
            number = _number(value)
            if number is None or name is None:
                continue
            if name == "step":
                data["step"] = int(number)
            elif name in _FIELDS and number >= 0:  # Azure writes -1 for what was not measured
                data[name] = number
        if "step" in data:
            rows.append(data)
    return rows


def _text(raw: bytes) -> str:
    """OpenAI hands result files out as base64, others as they are; a byte order mark is skipped."""
    if b"," not in raw:
        try:
            raw = base64.b64decode(raw, validate=False)
        except binascii.Error:
            return ""
    return raw.decode("utf-8-sig", errors="replace")


def _number(value: object) -> float | None:
    try:
        found = float(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found is not None and math.isfinite(found) else None
