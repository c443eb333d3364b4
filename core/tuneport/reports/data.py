"""The input of a report: plain values, so that a report can show a job of any backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tuneport.contract.events import Event
from tuneport.evaluate import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A prompt with the tuned model's answer, and with the base model's answer and the reference if there are any."""

    prompt: str
    answer: str
    base_answer: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTraining:
    """The training of another model, from a record."""

    model: str
    events: Sequence[Event] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything that a report shows. Only the ref, the state and the time of writing are required.

    `state`, `lineage`, `plan` and `check` are the results of `to_dict` of JobState, Lineage, Plan and CheckResult.
    `config` is the resolved configuration without secrets. `versions` and `machine` map names to texts.
    """

    ref: str
    state: Mapping[str, Any]
    created: datetime
    base: str | None = None
    events: Sequence[Event] = ()
    comparison: Comparison | None = None
    recorded: RecordedTraining | None = None
    samples: Sequence[Sample] = ()
    lineage: Mapping[str, Any] | None = None
    config: Mapping[str, Any] | None = None
    plan: Mapping[str, Any] | None = None
    check: Mapping[str, Any] | None = None
    usd: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
