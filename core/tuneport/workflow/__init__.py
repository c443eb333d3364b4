"""What the public functions do: prepare, train, use."""

from __future__ import annotations

from tuneport.workflow.budget import refuse_over_budget
from tuneport.workflow.comparing import compare
from tuneport.workflow.describing import JobDescription, describe
from tuneport.workflow.health import HealthCheck, doctor
from tuneport.workflow.hosting import hosting
from tuneport.workflow.hyperparameters import translate_settings
from tuneport.workflow.listing import JobSummary, ModelSummary, jobs, models
from tuneport.workflow.loading import load_dataset
from tuneport.workflow.naming import find_ref
from tuneport.workflow.observer import RunObserver
from tuneport.workflow.opening import (
    backends,
    delete,
    look_at,
    open_backend,
    open_job,
    open_model,
    settle,
)
from tuneport.workflow.pruning import Prunable, prune
from tuneport.workflow.pushing import push
from tuneport.workflow.recording import record_answers
from tuneport.workflow.reporting import report
from tuneport.workflow.running import RunResult, plan_run, run
from tuneport.workflow.split import Split
from tuneport.workflow.starting import plan, train

__all__ = [
    "HealthCheck",
    "JobDescription",
    "JobSummary",
    "ModelSummary",
    "Prunable",
    "RunObserver",
    "RunResult",
    "Split",
    "backends",
    "compare",
    "delete",
    "describe",
    "doctor",
    "find_ref",
    "hosting",
    "jobs",
    "load_dataset",
    "look_at",
    "models",
    "open_backend",
    "open_job",
    "open_model",
    "plan",
    "plan_run",
    "prune",
    "push",
    "record_answers",
    "refuse_over_budget",
    "report",
    "run",
    "settle",
    "train",
    "translate_settings",
]
