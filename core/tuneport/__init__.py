"""Prepare a dataset, train a model, use it: the same three steps over any fine-tuning backend.

What users import. `tuneport.errors` has the errors; authors of plugins import from `tuneport.plugin`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneport.doors import lazy

if TYPE_CHECKING:
    from tuneport import errors
    from tuneport.config import RunConfig
    from tuneport.contract.answers import AnswerPiece, GenerateOptions, Reply
    from tuneport.contract.backend import Backend
    from tuneport.contract.events import Event, Status
    from tuneport.contract.facts import Lineage, Publication, Score
    from tuneport.contract.hosting import Hosting
    from tuneport.contract.job import Job
    from tuneport.contract.model import Model
    from tuneport.contract.plan import Plan, Quantity
    from tuneport.contract.state import Checkpoint, JobState, Removal
    from tuneport.dataset import (
        CheckResult,
        Completion,
        Conversation,
        Dataset,
        Diagnostic,
        Example,
        FixResult,
        Message,
        Preference,
        Stats,
    )
    from tuneport.errors import TuneportError
    from tuneport.evaluate import Comparison, Grader
    from tuneport.refs import Ref
    from tuneport.workflow import (
        HealthCheck,
        JobDescription,
        JobSummary,
        ModelSummary,
        Prunable,
        RunObserver,
        RunResult,
        Split,
        backends,
        compare,
        delete,
        describe,
        doctor,
        hosting,
        jobs,
        load_dataset,
        models,
        open_backend,
        open_job,
        open_model,
        plan,
        prune,
        push,
        report,
        run,
        settle,
        train,
    )

__version__ = "0.1.0"

_EXPORTS = {
    "": "errors",
    "config": "RunConfig",
    "contract.answers": "AnswerPiece GenerateOptions Reply",
    "contract.backend": "Backend",
    "contract.events": "Event Status",
    "contract.hosting": "Hosting",
    "contract.job": "Job",
    "contract.facts": "Lineage Publication Score",
    "contract.model": "Model",
    "contract.plan": "Plan Quantity",
    "contract.state": "Checkpoint JobState Removal",
    "dataset": "CheckResult Completion Conversation Dataset Diagnostic Example FixResult Message Preference Stats",
    "errors": "TuneportError",
    "evaluate": "Comparison Grader",
    "refs": "Ref",
    "workflow": "HealthCheck JobDescription JobSummary ModelSummary Prunable RunObserver RunResult Split backends "
    "compare delete describe doctor hosting jobs load_dataset models open_backend open_job open_model plan prune push "
    "report run settle train",
}

__all__ = [
    "AnswerPiece",
    "Backend",
    "CheckResult",
    "Checkpoint",
    "Comparison",
    "Completion",
    "Conversation",
    "Dataset",
    "Diagnostic",
    "Event",
    "Example",
    "FixResult",
    "GenerateOptions",
    "Grader",
    "HealthCheck",
    "Hosting",
    "Job",
    "JobDescription",
    "JobState",
    "JobSummary",
    "Lineage",
    "Message",
    "Model",
    "ModelSummary",
    "Plan",
    "Preference",
    "Prunable",
    "Publication",
    "Quantity",
    "Ref",
    "Removal",
    "Reply",
    "RunConfig",
    "RunObserver",
    "RunResult",
    "Score",
    "Split",
    "Stats",
    "Status",
    "TuneportError",
    "backends",
    "compare",
    "delete",
    "describe",
    "doctor",
    "errors",
    "hosting",
    "jobs",
    "load_dataset",
    "models",
    "open_backend",
    "open_job",
    "open_model",
    "plan",
    "prune",
    "push",
    "report",
    "run",
    "settle",
    "train",
]

if not TYPE_CHECKING:  # a type checker that saw it would accept every name
    __getattr__ = lazy(__name__, _EXPORTS)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
