"""What the public functions do: prepare, train, use. Each file is imported when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneport.doors import lazy

if TYPE_CHECKING:
    from tuneport.workflow.budget import refuse_over_budget
    from tuneport.workflow.comparing import compare
    from tuneport.workflow.deployments import hosting
    from tuneport.workflow.describing import JobDescription, describe
    from tuneport.workflow.health import HealthCheck, doctor
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

_EXPORTS = {
    "workflow.budget": "refuse_over_budget",
    "workflow.comparing": "compare",
    "workflow.describing": "JobDescription describe",
    "workflow.health": "HealthCheck doctor",
    "workflow.deployments": "hosting",
    "workflow.hyperparameters": "translate_settings",
    "workflow.listing": "JobSummary ModelSummary jobs models",
    "workflow.loading": "load_dataset",
    "workflow.naming": "find_ref",
    "workflow.observer": "RunObserver",
    "workflow.opening": "backends delete look_at open_backend open_job open_model settle",
    "workflow.pruning": "Prunable prune",
    "workflow.pushing": "push",
    "workflow.recording": "record_answers",
    "workflow.reporting": "report",
    "workflow.running": "RunResult plan_run run",
    "workflow.split": "Split",
    "workflow.starting": "plan train",
}

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

if not TYPE_CHECKING:  # a type checker that saw it would accept every name
    __getattr__ = lazy(__name__, _EXPORTS)
