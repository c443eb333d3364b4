"""What authors of plugins import: the contract, the hooks, and the tools that every plugin needs.

Errors are in `tuneport.errors`, functions for users such as `open_job` in `tuneport`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneport.doors import lazy

if TYPE_CHECKING:
    from tuneport import html
    from tuneport.config import RunConfig, commented_yaml, load_section
    from tuneport.contract.answers import AnswerPiece, CallPiece, GenerateOptions, Reply, TokenLogprob
    from tuneport.contract.backend import Backend
    from tuneport.contract.batches import LiveBatch
    from tuneport.contract.capabilities import Availability, BaseInfo, Capabilities
    from tuneport.contract.estimates import estimate_text, estimate_tokens, measure_example, scale_sample
    from tuneport.contract.events import Event, Status, utc_now
    from tuneport.contract.facts import Lineage, Publication, PushRequest, Score
    from tuneport.contract.hooks import hookimpl
    from tuneport.contract.job import Job
    from tuneport.contract.model import Model
    from tuneport.contract.notebook import MemoryNotebook, Notebook
    from tuneport.contract.patience import Patience
    from tuneport.contract.plan import Plan, Quantity
    from tuneport.contract.request import TrainRequest, TrainSettings
    from tuneport.contract.schemas import read_schema
    from tuneport.contract.settings import Secret, Settings
    from tuneport.contract.state import Checkpoint, JobState, Removal
    from tuneport.dataset import (
        CheckResult,
        Completion,
        Conversation,
        DataRules,
        Dataset,
        Diagnostic,
        Example,
        Message,
        Piece,
        Preference,
    )
    from tuneport.evaluate import Comparison, Record, answer_room
    from tuneport.files import lock_file, open_regular, replace_file, sync, try_lock, write_file, write_json
    from tuneport.homefolder import home, local_path
    from tuneport.loader import alternatives, availability
    from tuneport.notebook import open_notebook
    from tuneport.printable import one_line
    from tuneport.refs import Ref
    from tuneport.services import Redactor, check_proxies, guard
    from tuneport.spelling import did_you_mean
    from tuneport.terminal.outlet import BarStream, ask_secret, say, say_json, say_lines, transfer_bar
    from tuneport.terminal.tables import confirm, print_table, working
    from tuneport.units import duration, many, size
    from tuneport.versions import installed_versions
    from tuneport.workflow import find_ref, record_answers, translate_settings

_EXPORTS = {
    "": "html",
    "config": "RunConfig commented_yaml load_section",
    "contract.answers": "AnswerPiece CallPiece GenerateOptions Reply TokenLogprob",
    "contract.backend": "Backend",
    "contract.batches": "LiveBatch",
    "contract.capabilities": "Availability BaseInfo Capabilities",
    "contract.estimates": "estimate_text estimate_tokens measure_example scale_sample",
    "contract.events": "Event Status utc_now",
    "contract.hooks": "hookimpl",
    "contract.job": "Job",
    "contract.facts": "Lineage Publication PushRequest Score",
    "contract.model": "Model",
    "contract.notebook": "MemoryNotebook Notebook",
    "contract.patience": "Patience",
    "contract.plan": "Plan Quantity",
    "contract.request": "TrainRequest TrainSettings",
    "contract.schemas": "read_schema",
    "contract.settings": "Secret Settings",
    "contract.state": "Checkpoint JobState Removal",
    "dataset": "CheckResult Completion Conversation DataRules Dataset Diagnostic Example Message Piece Preference",
    "evaluate": "Comparison Record answer_room",
    "files": "lock_file open_regular replace_file sync try_lock write_file write_json",
    "homefolder": "home local_path",
    "loader": "alternatives availability",
    "notebook": "open_notebook",
    "printable": "one_line",
    "refs": "Ref",
    "services": "Redactor check_proxies guard",
    "spelling": "did_you_mean",
    "terminal.outlet": "BarStream ask_secret say say_json say_lines transfer_bar",
    "terminal.tables": "confirm print_table working",
    "units": "duration many size",
    "versions": "installed_versions",
    "workflow": "find_ref record_answers translate_settings",
}

__all__ = [
    "AnswerPiece",
    "Availability",
    "Backend",
    "BarStream",
    "BaseInfo",
    "CallPiece",
    "Capabilities",
    "CheckResult",
    "Checkpoint",
    "Comparison",
    "Completion",
    "Conversation",
    "DataRules",
    "Dataset",
    "Diagnostic",
    "Event",
    "Example",
    "GenerateOptions",
    "Job",
    "JobState",
    "Lineage",
    "LiveBatch",
    "MemoryNotebook",
    "Message",
    "Model",
    "Notebook",
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
    "Removal",
    "Reply",
    "RunConfig",
    "Score",
    "Secret",
    "Settings",
    "Status",
    "TokenLogprob",
    "TrainRequest",
    "TrainSettings",
    "alternatives",
    "answer_room",
    "ask_secret",
    "availability",
    "check_proxies",
    "commented_yaml",
    "confirm",
    "did_you_mean",
    "duration",
    "estimate_text",
    "estimate_tokens",
    "find_ref",
    "guard",
    "home",
    "hookimpl",
    "html",
    "installed_versions",
    "load_section",
    "local_path",
    "lock_file",
    "many",
    "measure_example",
    "one_line",
    "open_notebook",
    "open_regular",
    "print_table",
    "read_schema",
    "record_answers",
    "replace_file",
    "say",
    "say_json",
    "say_lines",
    "scale_sample",
    "size",
    "sync",
    "transfer_bar",
    "translate_settings",
    "try_lock",
    "utc_now",
    "working",
    "write_file",
    "write_json",
]

if not TYPE_CHECKING:  # a type checker that saw it would accept every name
    __getattr__ = lazy(__name__, _EXPORTS)


def __dir__() -> list[str]:
    return sorted(__all__)
