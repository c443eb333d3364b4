"""What the public functions do: prepare, train, use."""

from __future__ import annotations

from tuneport.workflow.observe import deliver_events
from tuneport.workflow.opening import (
    JobSummary,
    ModelSummary,
    compare,
    delete,
    jobs,
    models,
    open_job,
    open_model,
)
from tuneport.workflow.running import RunResult, report, run
from tuneport.workflow.starting import plan, train

__all__ = [
    "JobSummary",
    "ModelSummary",
    "RunResult",
    "compare",
    "delete",
    "deliver_events",
    "jobs",
    "models",
    "open_job",
    "open_model",
    "plan",
    "report",
    "run",
    "train",
]
