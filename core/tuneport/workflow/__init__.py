"""What the public functions do: prepare, train, use."""

from __future__ import annotations

from tuneport.workflow.comparing import compare, own_holdout
from tuneport.workflow.hyperparameters import translate_settings
from tuneport.workflow.listing import JobSummary, ModelSummary, jobs, models
from tuneport.workflow.loading import load_dataset
from tuneport.workflow.naming import find_ref
from tuneport.workflow.opening import (
    backends,
    delete,
    look_at,
    open_backend,
    open_job,
    open_model,
    root_base,
    settle,
    written_report,
)
from tuneport.workflow.pushing import push
from tuneport.workflow.recording import record_answers
from tuneport.workflow.running import RunResult, Split, found_comparison, plan_run, refuse_over_budget, report, run
from tuneport.workflow.starting import plan, train
from tuneport.workflow.upkeep import HealthCheck, Prunable, doctor, prune

__all__ = [
    "HealthCheck",
    "JobSummary",
    "ModelSummary",
    "Prunable",
    "RunResult",
    "Split",
    "backends",
    "compare",
    "delete",
    "doctor",
    "find_ref",
    "found_comparison",
    "jobs",
    "load_dataset",
    "look_at",
    "models",
    "open_backend",
    "open_job",
    "open_model",
    "own_holdout",
    "plan",
    "plan_run",
    "prune",
    "push",
    "record_answers",
    "refuse_over_budget",
    "report",
    "root_base",
    "run",
    "settle",
    "train",
    "translate_settings",
    "written_report",
]
