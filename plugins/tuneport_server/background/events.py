"""A training's events, checkpoints and result file, as the wire represents them."""

from __future__ import annotations

import csv
import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneport import open_job
from tuneport.errors import NotFoundError
from tuneport.plugin import Event, Job, Ref
from tuneport_server.store import SERVER_EVENTS, TRAINING_EVENTS, Owned, Row

CHECKPOINT = ":ckpt-step-"
"""A checkpoint's name is the tuned model's name, this, and the step."""

_CACHED = 16
_LEVELS = {"info": "info", "warning": "warn", "error": "error"}
_RESULT_COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_accuracy",
}


@dataclass(slots=True)
class _Cached:
    """The events of one training so far, with its own lock: a hosted training may be slow to list them."""

    events: list[dict[str, Any]] = field(default_factory=list)
    job: Job | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class TrainingEvents:
    """A cache of the events of recently requested trainings, so that a page of a long list does not read all of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Cached] = OrderedDict()

    def of(self, ref: str) -> list[dict[str, Any]]:
        """Return all events of a training, without ids. Raises JobNotFound."""
        with self._lock:
            known = self._known.setdefault(ref, _Cached())
            self._known.move_to_end(ref)
            if len(self._known) > _CACHED:
                self._known.popitem(last=False)
        with known.lock:
            known.job = known.job or open_job(Ref.parse(ref))
            known.events += [_to_wire(event) for event in known.job.events(len(known.events))]
            return list(known.events)


def events_of(owned: Owned, cache: TrainingEvents, row: Row) -> list[dict[str, Any]]:
    """Return all events of a job, oldest first: the server's, then those of the training. An event's id never
    changes.
    """
    own = owned.events(row["id"], SERVER_EVENTS)
    training: Sequence[dict[str, Any]] = ()
    if row["ref"] is not None:
        try:
            training = () if row["removed"] else cache.of(row["ref"])
        except NotFoundError:
            training = ()
        training = training or owned.events(row["id"], TRAINING_EVENTS)
    stem = row["id"].removeprefix("ftjob-")
    return [
        {"object": "fine_tuning.job.event", "id": f"ftevent-{stem}-{part}{number:06}", "type": "message", **event}
        for part, events in (("a", own), ("b", training))
        for number, event in enumerate(events, 1)
    ]


def result_csv(job: Job) -> str:
    """Return the metrics as the wire's result file, a CSV. A field is empty where nothing was measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_RESULT_COLUMNS)
    for metrics in job.metrics():
        if "step" in metrics:
            writer.writerow([metrics.get(name, "") for name in _RESULT_COLUMNS.values()])
    return out.getvalue()


def checkpoints_of(row: Row) -> list[dict[str, Any]]:
    """Return the checkpoints of a job, newest first."""
    if row["ref"] is None or row["removed"]:
        return []
    try:
        found = open_job(Ref.parse(row["ref"])).checkpoints()
    except NotFoundError:
        return []
    stem = row["id"].removeprefix("ftjob-")
    return [
        {
            "object": "fine_tuning.job.checkpoint",
            "id": f"ftckpt-{stem}-{one.step}",
            "created_at": int(one.created.timestamp()),
            "fine_tuning_job_id": row["id"],
            "fine_tuned_model_checkpoint": f"{row['tuned']}{CHECKPOINT}{one.step}",
            "step_number": one.step,
            "metrics": {"step": one.step, **_numbers(one.metrics)},
        }
        for one in reversed(found)
    ]


def _to_wire(event: Event) -> dict[str, Any]:
    data = {name: value for name, value in event.data.items() if value is not None}
    return {
        "created_at": int(event.time.timestamp()),
        "level": _LEVELS.get(event.level, "info"),
        "message": _message(event),
        "type": "metrics" if event.kind == "metric" else "message",
        "data": _plain(data),
    }


def _message(event: Event) -> str:
    if event.kind == "metric" and "step" in event.data and event.data.get("train_loss") is not None:
        total = f"/{event.data['total_steps']}" if "total_steps" in event.data else ""
        return f"Step {event.data['step']}{total}: training loss={event.data['train_loss']:.2f}"
    return event.message or event.kind


def _numbers(metrics: Any) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def _plain(value: Any) -> Any:
    """Return a value that JSON can represent: null for NaN and infinity, text for other objects."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | bool | None) else str(value)
