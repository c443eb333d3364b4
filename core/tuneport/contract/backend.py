"""What can train: the contract that a plugin fulfils."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tuneport.dataset import DataRules
from tuneport.doors import AUTHORS, public
from tuneport.errors import ModelNotFound
from tuneport.printable import one_line
from tuneport.units import many

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tuneport.contract.job import Job
    from tuneport.contract.model import Model
    from tuneport.dataset import Dataset
    from tuneport.refs import Ref

Method = Literal["sft", "dpo", "orpo", "reinforcement"]


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do, static and honest; what is absent here is refused before anything starts.

    `verbs` are those of cancel, pause, resume that its jobs have. `learning_rate` says in which unit it takes one.
    `auto_epochs` tells the rule behind `epochs: auto`; what "auto" means to a setting of the backend's own stands in
    that setting's description.
    """

    methods: frozenset[str]
    verbs: frozenset[str] = frozenset({"cancel"})
    learning_rate: Literal["absolute", "multiplier"] = "absolute"
    rules: DataRules = field(default_factory=DataRules)
    auto_epochs: str = ""
    local: bool = False


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether a backend can be used here and now; else why not, and the cure. `details`: facts such as the device.
    `plans`: it can say all the same what a start would do and cost, and notes in its plan what is missing.
    """

    ready: bool
    reason: str = ""
    remedy: str | None = None
    plans: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """The portable settings that every backend understands, or refuses before anything starts.

    `too_long` says what becomes of a row that is longer than the model takes: it stops the start, or the backend drops
    or truncates it and counts it in a log event.
    """

    method: Method = "sft"
    epochs: int | Literal["auto"] = "auto"
    seed: int = 0
    suffix: str | None = None
    too_long: Literal["stop", "drop", "truncate"] = "stop"


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """Everything that a backend gets to start a job.

    `name` is the job's (and its model's) name, unique on this machine. `intent` is a UUID that was in the ledger
    before this request was made: a start is idempotent on it. `settings` is an instance of the backend's
    `settings_class`. `scratch` is a durable mapping (text → JSON value; each assignment is committed at once) for what
    must not be forgotten.
    """

    intent: str
    name: str
    base: Ref
    train: Dataset
    validation: Dataset | None = None
    options: TrainSettings = field(default_factory=TrainSettings)
    settings: BaseModel
    metadata: Mapping[str, str] = field(default_factory=dict)
    scratch: MutableMapping[str, Any] = field(default_factory=dict)


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A number that a plan foretells: its unit, where it comes from, and its error; value None is "unknown"."""

    value: float | None
    unit: str
    source: str
    error: str | None = None

    def __str__(self) -> str:
        """The number as a person says it.

        >>> str(Quantity(value=90, unit="s", source="measured"))
        '1 min 30 s'
        """
        from tuneport.units import duration, size

        if self.value is None:
            return "unknown"
        if self.unit in ("s", "seconds"):
            return duration(self.value)
        if self.unit in ("B", "bytes"):
            return size(self.value)
        return f"{self.value:,.2f} USD" if self.unit.lower() == "usd" else f"{self.value:,.0f}"


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would do and cost, before it does it. `resolved` has the settings that training would use, what "auto"
    came to among them, and `reasons` says for each of them why.
    """

    base: str
    rows: int
    validation_rows: int
    tokens: Quantity
    steps: Quantity
    seconds: Quantity
    memory: Quantity
    usd: Quantity
    epochs: Quantity
    resolved: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        from dataclasses import asdict

        return asdict(self)

    def __repr__(self) -> str:
        told = ", ".join(
            f"{one} {name.removesuffix('s') if one.value == 1 else name}" if name in ("tokens", "steps") else str(one)
            for name, one in self._amounts().items()
            if one.value is not None and name in ("tokens", "steps", "time", "money")
        )
        return one_line(f"<Plan {self.base}: {many(self.rows, 'row')}{f', {told}' if told else ''}>")

    def _repr_html_(self) -> str:
        """For a notebook: each amount with its error and source, the settings with their reasons, the notes."""
        from tuneport.cards import card, grid
        from tuneport.units import amount

        amounts = [[name, str(one), one.error or "", one.source] for name, one in self._amounts().items()]
        settings = [
            [name.replace("_", " "), amount(self.resolved[name]), why]
            for name, why in self.reasons.items()
            if name in self.resolved
        ]
        tables = [grid(["", "planned", "error", "source"], amounts)]
        tables += [grid(["setting", "value", "why"], settings)] if settings else []
        return card(repr(self).strip("<>"), [("note", note) for note in self.notes], *tables)

    def _amounts(self) -> dict[str, Quantity]:
        labels = {"seconds": "time", "usd": "money"}
        names = ("tokens", "epochs", "steps", "seconds", "memory", "usd")
        return {labels.get(name, name): getattr(self, name) for name in names}


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class BaseInfo:
    """A base model that a backend knows by name: what it is, and whether it is on this machine already."""

    ref: Ref
    description: str
    present: bool | None = None


@public()
class Backend(ABC):
    """A thing that trains. `start` is idempotent on `request.intent`: asked again, it returns the same job.

    `packages` are the import names that it needs beyond tuneport itself, `install` what a user types to get them.
    `listed` is False for one that is there only so that refs of old jobs can say what is missing.
    """

    name: str
    listed: bool = True
    capabilities: Capabilities
    packages: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = ""

    @property
    @abstractmethod
    def settings_class(self) -> type[BaseModel]:
        """The settings of the backend's section: a subclass of `tuneport.Settings`. Imported when asked for."""

    @abstractmethod
    def start(self, request: TrainRequest) -> Job:
        """Start a job and return at once."""

    @abstractmethod
    def job(self, name: str) -> Job:
        """The job of that name; raises JobNotFound."""

    @abstractmethod
    def model(self, name: str) -> Model:
        """A base or tuned model by name, not necessarily loaded yet; raises ModelNotFound."""

    @abstractmethod
    def plan(self, request: TrainRequest) -> Plan:
        """What `start` would do and cost. Starts, sends and spends nothing."""

    def rules(self, base: str) -> DataRules:
        """What data it takes for that base model: the capabilities' rules, with limits and tokenizer where known."""
        del base
        return self.capabilities.rules

    def check_base(self, base: str) -> None:
        """Raise ModelNotFound or UnavailableError when that base cannot be trained; cheap, and asks no network."""
        if not base:
            raise ModelNotFound(f"{self.name}: names no model.")

    def settle(self, name: str) -> Job:
        """Learn what became of an unconfirmed start, and return its job; raises JobNotFound when there is none."""
        return self.job(name)

    def bases(self) -> list[BaseInfo]:
        """The base models known by name, such as aliases; not a limit on what can be named."""
        return []

    def missing(self, name: str) -> str:
        """What a tuned model lacks to be used here, such as its base, in a sentence; empty where nothing is known to be
        missing. Cheap, and asks no network.
        """
        del name
        return ""

    def availability(self) -> Availability:
        """Whether the packages are there; a backend adds keys, hardware and closing vendors. Imports none of them."""
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if not missing:
            return Availability(ready=True)
        return Availability(
            ready=False,
            reason=f"needs {', '.join(missing)}",
            remedy=f"Run: {self.install}" if self.install else None,
        )
