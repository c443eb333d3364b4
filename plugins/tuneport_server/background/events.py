"""A training's events and checkpoints, in the wire's words."""

from __future__ import annotations

import csv
import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tuneport import open_job
from tuneport.errors import NotFoundError
from tuneport.plugin import Event, Job, Ref

if TYPE_CHECKING:
    from tuneport_server.server import Server
    from tuneport_server.store import Row

CHECKPOINT = ":ckpt-step-"
"""What stands between a tuned model's name and a step in the name of a checkpoint."""

_KEPT = 16
_LEVELS = {"info": "info", "warning": "warn", "error": "error"}
_RESULT_COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_accuracy",
}


@dataclass(slots=True)
class _Training:
    """The events of one training so far. Its lock is its own: a hosted one may take its time to tell them."""

    events: list[dict[str, Any]] = field(default_factory=list)
    job: Job | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Seen:
    """The events of the trainings that were asked about last, so that a page of a long list need not read all of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Training] = OrderedDict()

    def of(self, ref: str) -> list[dict[str, Any]]:
        """All events of a training, without ids. Raises JobNotFound."""
        with self._lock:
            known = self._known.setdefault(ref, _Training())
            self._known.move_to_end(ref)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        with known.lock:
            known.job = known.job or open_job(Ref.parse(ref))
            known.events += [_wire(event) for event in known.job.events(len(known.events))]
            return list(known.events)


def events_of(server: Server, row: Row) -> list[dict[str, Any]]:
    """All events of a job, oldest first: the server's own, then those of the training. An event's id never changes."""
    own = server.store.events(row["id"], 0)
    training: Sequence[dict[str, Any]] = ()
    if row["ref"] is not None:
        try:
            training = () if row["removed"] else server.seen.of(row["ref"])
        except NotFoundError:
            training = ()
        training = training or server.store.events(row["id"], 1)
    stem = row["id"].removeprefix("ftjob-")
    return [
        {"object": "fine_tuning.job.event", "id": f"ftevent-{stem}-{part}{number:06}", "type": "message", **event}
        for part, events in (("a", own), ("b", training))
        for number, event in enumerate(events, 1)
    ]


def result_csv(job: Job) -> str:
    """The metrics as the wire's result file has them; an empty field where nothing was measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_RESULT_COLUMNS)
    for metrics in job.metrics():
        if "step" in metrics:
            writer.writerow([metrics.get(name, "") for name in _RESULT_COLUMNS.values()])
    return out.getvalue()


def checkpoints_of(row: Row) -> list[dict[str, Any]]:
    """The checkpoints that a job has, newest first."""
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


def _wire(event: Event) -> dict[str, Any]:
    data = {name: value for name, value in event.data.items() if value is not None}
    return {
        "created_at": int(event.time.timestamp()),
        "level": _LEVELS.get(event.level, "info"),
        "message": _said(event),
        "type": "metrics" if event.kind == "metric" else "message",
        "data": _plain(data),
    }


def _said(event: Event) -> str:
    if event.kind == "metric" and "step" in event.data and event.data.get("train_loss") is not None:
        total = f"/{event.data['total_steps']}" if "total_steps" in event.data else ""
        return f"Step {event.data['step']}{total}: training loss={event.data['train_loss']:.2f}"
    return event.message or event.kind


def _numbers(metrics: Any) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def _plain(value: Any) -> Any:
    """What JSON can say; a number that is none becomes null, another object its text."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | bool | None) else str(value)
