"""What an author's calls receive and return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from tuneport.contract.events import EventKind, EventLevel
from tuneport.doors import HOSTED, public


@public(HOSTED)
@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A file of rows on this machine. `part` is "train" or "validation", `name` is made from the SHA-256 of the bytes:
    the same rows are always the same file. `dropped` counts rows that were left out as too long.
    """

    part: str
    path: Path
    name: str
    sha256: str
    bytes: int
    rows: int
    dropped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {name: str(value) if name == "path" else value for name, value in _fields(self)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The file that `to_dict` wrote."""
        return cls(**{**raw, "path": Path(raw["path"])})


@public(HOSTED)
@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A start as the notebook keeps it: everything a request needs, in whichever process it is sent.

    `mark` is the text by which the job can be recognized later, as the service's proof makes it: send it where the
    proof looks for it. `body` is what `Service.write_body` returned, `files` the service's ids by part, `account` what
    `Service.read_account` returned, `model` the base by the service's own name and `is_tuned` whether it is one of our
    tuned models. `usd_per_million_tokens` is the price that the plan was made with, where it is known.
    """

    ref: str
    intent: str
    mark: str
    method: str
    model: str
    is_tuned: bool = False
    account: str = ""
    usd_per_million_tokens: float | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@public(HOSTED)
@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the service says about a job. Times are UTC.

    `word` is its own word for the status, `model` the tuned model's name there, `mark` the text that `Start.mark` put
    there (for proofs that look for it), `percent` from 0 to 100, `usd` what the training costs as the service says.
    `details` are JSON values for `tuneport show` and for the author's own calls. `raw` is the service's own answer, for
    `read_entries`; it is not kept, so a signed address may be in it.
    """

    id: str
    word: str
    message: str = ""
    mark: str = ""
    model: str = ""
    step: int | None = None
    total_steps: int | None = None
    tokens: int | None = None
    percent: float | None = None
    queue_position: int | None = None
    seconds_left: float | None = None
    usd: float | None = None
    created: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, without `raw`."""
        kept = [(name, value) for name, value in _fields(self) if name != "raw"]
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in kept}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The report that `to_dict` wrote."""
        times = {name: datetime.fromisoformat(raw[name]) for name in ("created", "started", "finished") if raw[name]}
        return cls(**{**raw, **times})


@public(HOSTED)
@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a service's log or one row of its metrics. `id` is the service's own, or made from what it says: the
    same entry has the same id each time. `time` is None where the service gives none. The `data` of a metric has `step`
    and tuneport's names, such as `train_loss`; see `read_metrics`.
    """

    id: str
    message: str
    time: datetime | None = None
    kind: EventKind = "log"
    level: EventLevel = "info"
    data: Mapping[str, Any] = field(default_factory=dict)


@public(HOSTED)
@dataclass(frozen=True, slots=True, kw_only=True)
class Belonging:
    """A thing that a job left at the service: `what` it is, for a person, and the call that removes it, which returns
    whether it was there. `keep` says why it stays: `remove` is not called then.
    """

    what: str
    remove: Callable[[], bool] | None = None
    keep: str = ""


def _fields(value: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(value, name)) for name in value.__dataclass_fields__]
