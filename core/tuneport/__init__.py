"""Prepare a dataset, train a model, use it: the same three steps over any fine-tuning backend.

Everything public is here; nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneport.answers import AnswerPiece, CallPiece, GenerateOptions, Reply, TokenLogprob
    from tuneport.backend import (
        Availability,
        Backend,
        BaseInfo,
        Capabilities,
        Plan,
        Quantity,
        TrainRequest,
        TrainSettings,
    )
    from tuneport.batches import LiveBatch
    from tuneport.cli.outlet import BarStream, ask_secret, say, say_json, say_lines, transfer_bar
    from tuneport.cli.terminal import confirmed, print_table, working
    from tuneport.config import RunConfig, Secret, Settings, commented_yaml, load_section
    from tuneport.dataset import (
        CheckResult,
        Completion,
        Conversation,
        DataProfile,
        Dataset,
        Diagnostic,
        Example,
        Message,
        Piece,
        Preference,
    )
    from tuneport.errors import (
        BackendError,
        BackendNotFound,
        BudgetError,
        ConfigError,
        DataError,
        HomeError,
        JobCancelled,
        JobError,
        JobFailed,
        JobNotFinished,
        JobNotFound,
        ModelNotFound,
        NotFoundError,
        OptionError,
        RefError,
        TuneportError,
        UnavailableError,
        UnsupportedError,
        UsageError,
        WaitTimeout,
    )
    from tuneport.evaluate import Comparison, Grader, Record, answer_room
    from tuneport.events import Event, Status, utc_now
    from tuneport.homefolder import home, local_path, open_regular
    from tuneport.hookspecs import hookimpl
    from tuneport.job import Checkpoint, Job, JobState, Patience
    from tuneport.model import Lineage, Model, Publication, PushRequest, Score
    from tuneport.plugins import availability
    from tuneport.refs import Ref
    from tuneport.schemas import read_schema
    from tuneport.services import Redactor, check_proxies, guard
    from tuneport.visible import one_line
    from tuneport.workflow import (
        backends,
        compare,
        delete,
        deliver_events,
        find_ref,
        job_scratch,
        jobs,
        keep_events,
        kept_events,
        models,
        open_backend,
        open_job,
        open_model,
        plan,
        push,
        record_answers,
        run,
        settle,
        train,
        translate_settings,
    )

__version__ = "0.1.0"

_ROOMS = {
    "errors": "TuneportError UsageError RefError OptionError ConfigError DataError NotFoundError BackendNotFound "
    "JobNotFound ModelNotFound UnsupportedError UnavailableError BudgetError JobError JobFailed JobCancelled "
    "JobNotFinished WaitTimeout BackendError HomeError",
    "refs": "Ref",
    "events": "Event Status utc_now",
    "homefolder": "home local_path open_regular",
    "dataset": "Dataset Example Message Conversation Completion Preference Diagnostic CheckResult DataProfile Piece",
    "answers": "Reply GenerateOptions TokenLogprob AnswerPiece CallPiece",
    "batches": "LiveBatch",
    "schemas": "read_schema",
    "model": "Model Lineage Score Publication PushRequest",
    "evaluate": "Comparison Grader Record answer_room",
    "job": "Job JobState Checkpoint Patience",
    "services": "Redactor check_proxies guard",
    "backend": "Backend BaseInfo Capabilities Availability TrainRequest TrainSettings Plan Quantity",
    "config": "RunConfig Secret Settings commented_yaml load_section",
    "hookspecs": "hookimpl",
    "plugins": "availability",
    "workflow": "backends plan train run push compare delete settle open_backend open_job open_model jobs models "
    "deliver_events find_ref job_scratch keep_events kept_events record_answers translate_settings",
    "visible": "one_line",
    "cli.outlet": "BarStream ask_secret say say_json say_lines transfer_bar",
    "cli.terminal": "confirmed print_table working",
}
_HOME_OF = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = [
    "AnswerPiece",
    "Availability",
    "Backend",
    "BackendError",
    "BackendNotFound",
    "BarStream",
    "BaseInfo",
    "BudgetError",
    "CallPiece",
    "Capabilities",
    "CheckResult",
    "Checkpoint",
    "Comparison",
    "Completion",
    "ConfigError",
    "Conversation",
    "DataError",
    "DataProfile",
    "Dataset",
    "Diagnostic",
    "Event",
    "Example",
    "GenerateOptions",
    "Grader",
    "HomeError",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "JobNotFinished",
    "JobNotFound",
    "JobState",
    "Lineage",
    "LiveBatch",
    "Message",
    "Model",
    "ModelNotFound",
    "NotFoundError",
    "OptionError",
    "Patience",
    "Piece",
    "Plan",
    "Preference",
    "Publication",
    "PushRequest",
    "Quantity",
    "Record",
    "Redactor",
    "Ref",
    "RefError",
    "Reply",
    "RunConfig",
    "Score",
    "Secret",
    "Settings",
    "Status",
    "TokenLogprob",
    "TrainRequest",
    "TrainSettings",
    "TuneportError",
    "UnavailableError",
    "UnsupportedError",
    "UsageError",
    "WaitTimeout",
    "answer_room",
    "ask_secret",
    "availability",
    "backends",
    "check_proxies",
    "commented_yaml",
    "compare",
    "confirmed",
    "delete",
    "deliver_events",
    "find_ref",
    "guard",
    "home",
    "hookimpl",
    "job_scratch",
    "jobs",
    "keep_events",
    "kept_events",
    "load_section",
    "local_path",
    "models",
    "one_line",
    "open_backend",
    "open_job",
    "open_model",
    "open_regular",
    "plan",
    "print_table",
    "push",
    "read_schema",
    "record_answers",
    "run",
    "say",
    "say_json",
    "say_lines",
    "settle",
    "train",
    "transfer_bar",
    "translate_settings",
    "utc_now",
    "working",
]


def _found(name: str) -> Any:
    room = _HOME_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'tuneport' has no attribute {name!r}")
    module = importlib.import_module(f"tuneport.{room}")
    if room == "dataset":
        module.set_openers(_open_by_plugins)
    if room == "workflow":
        importlib.import_module("tuneport.progress").set_show(_show_progress)
    value = getattr(module, name)
    globals()[name] = value
    return value


if not TYPE_CHECKING:  # a type checker that saw it would take every name for one of ours
    __getattr__ = _found


def _open_by_plugins(source: object) -> Dataset | None:
    from tuneport.plugins import load

    return load().open_dataset(source)


def _show_progress(title: str) -> Any:
    from tuneport.cli.live import progress_line

    return progress_line(title)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
