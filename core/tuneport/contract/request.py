"""What a backend gets to start a job or to plan one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tuneport.contract.capabilities import Method
from tuneport.contract.notebook import MemoryNotebook, Notebook
from tuneport.doors import AUTHORS, public
from tuneport.refs import Ref

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tuneport.dataset import Dataset


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """The portable settings. The core refuses before the start what the backend's capabilities do not cover.

    `seed`: None leaves it to the backend, and is what a backend without seeds gets. `too_long`: a row that is longer
    than the model takes stops the start, or the backend drops or truncates it and counts it in a log event. `suffix`:
    what the user wants the model's name to contain.
    """

    method: Method = "sft"
    epochs: int | Literal["auto"] = "auto"
    seed: int | None = None
    suffix: str | None = None
    too_long: Literal["stop", "drop", "truncate"] = "stop"


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """Everything that a backend gets to start a job.

    `intent`: a UUID that was in the ledger before this request was made; a start is idempotent on it. `name`: the name
    of the job and its model, unique on this machine. `settings`: an instance of the backend's `settings_class`.
    `metadata`: the user's labels, to pass on to a service that keeps labels; in a start, `intent` is among them.
    `budget_usd`: the most that the training may cost, for a backend that knows the price only once files are uploaded.
    `notebook`: durable in a start; a plan gets one that is kept in memory.
    """

    intent: str
    name: str
    base: Ref
    train: Dataset
    validation: Dataset | None = None
    options: TrainSettings = field(default_factory=TrainSettings)
    settings: BaseModel
    metadata: Mapping[str, str] = field(default_factory=dict)
    budget_usd: float | None = None
    notebook: Notebook = field(default_factory=MemoryNotebook)
