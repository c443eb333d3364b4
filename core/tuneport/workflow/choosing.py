"""Chooses a backend, a base, settings and rows that fit together, and refuses what does not before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tuneport.contract.backend import Backend
from tuneport.contract.capabilities import Capabilities
from tuneport.contract.notebook import MemoryNotebook, Notebook
from tuneport.contract.plan import Plan
from tuneport.contract.request import TrainRequest, TrainSettings
from tuneport.errors import DataError, UnavailableError, UnsupportedError
from tuneport.loader import availability, closing_note, load
from tuneport.printable import one_line
from tuneport.refs import Ref

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tuneport.config import RunConfig
    from tuneport.dataset import CheckResult, DataRules, Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A backend, a base and settings that go together; only the rows are missing. `notes` are for the plan."""

    backend: Backend
    base: Ref
    config: RunConfig
    settings: BaseModel
    capabilities: Capabilities
    notes: tuple[str, ...] = ()

    def check(self, rows: Dataset, *held_out: Dataset | None) -> CheckResult:
        """Rows against the backend's rules and against leaks from held-out ones; its `dataset` is what may be used."""
        return self._check_rows(rows, self.backend.rules(self.base.name), held_out)

    def check_validation(self, rows: Dataset, *held_out: Dataset | None) -> Dataset:
        """The validation rows that may be used; a few are enough. Raises DataError for rows with errors."""
        checked = self._check_rows(rows, replace(self.backend.rules(self.base.name), min_rows=1), held_out)
        refuse_bad_data(checked, self.config)
        return checked.dataset

    def _check_rows(self, rows: Dataset, rules: DataRules, held_out: Iterable[Dataset | None]) -> CheckResult:
        against = [one for one in held_out if one is not None]
        config = self.config
        return rows.check(rules, method=config.train.method, against=against, too_long=config.data.too_long)

    def with_rows(
        self, train: Dataset, validation: Dataset | None = None, metadata: Mapping[str, str] | None = None
    ) -> Prepared:
        """The training of these rows, which were checked. Raises UnsupportedError for validation rows that the backend
        does not take.
        """
        if validation is not None:
            _refuse_validation(self.backend, self.capabilities)
        return Prepared(choice=self, train=train, validation=validation, metadata=dict(metadata or {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A training that could start now: nothing is missing, nothing is written yet."""

    choice: Choice
    train: Dataset
    validation: Dataset | None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def backend(self) -> Backend:
        """What trains."""
        return self.choice.backend

    @property
    def identity(self) -> str:
        """What makes two starts the same: base, options, settings and rows."""
        from tuneport.config import identity

        parts = [self.train] if self.validation is None else [self.train, self.validation]
        return identity(self.choice.config, self.choice.settings, [part.fingerprint for part in parts])

    @property
    def options(self) -> TrainSettings:
        """The portable settings, without a seed where the backend takes none."""
        config = self.choice.config
        options = config.train.options(too_long=config.data.too_long)
        return options if self.choice.capabilities.seed else replace(options, seed=None)

    def plan(self) -> Plan:
        """What starting it would do and cost."""
        found = self.backend.plan(self.request(name="plan"))
        return replace(found, notes=(*self.choice.notes, *found.notes))

    def request(self, intent: str = "", name: str = "", notebook: Notebook | None = None) -> TrainRequest:
        """What the backend gets."""
        return TrainRequest(
            intent=intent,
            name=name,
            base=self.choice.base,
            train=self.train,
            validation=self.validation,
            options=self.options,
            settings=self.choice.settings,
            metadata=self.metadata,
            budget_usd=self.choice.config.budget.usd,
            notebook=notebook or MemoryNotebook(),
        )


def choose(config: RunConfig, *, to_plan: bool = False) -> Choice:
    """Find the backend that a config names, and validate everything but the rows. `to_plan`: nothing will be started,
    so a backend that cannot start now is accepted if it can plan.
    """
    from tuneport.config import backend_settings

    base = config.ref
    backend = load().backend(base.backend)
    capabilities = backend.capabilities_of(base.name)
    _refuse_unsupported(backend, capabilities, config)
    settings = backend_settings(config, backend.name, backend.settings_class)
    answer = availability(backend)
    if not answer.ready and not (to_plan and answer.plans):
        remedy = " ".join(filter(None, (closing_note(backend, config.train.method), answer.remedy)))
        raise UnavailableError(
            f"The backend {backend.name!r} cannot be used here: {answer.reason}.", remedy=remedy or None
        )
    backend.check_base(base.name)
    notes = [closing_note(backend, config.train.method)] if answer.closing else []
    if config.train.seed is not None and not capabilities.seed:
        notes.append(
            f"{backend.name} takes no seed: training again with the same rows gives a slightly different model."
        )
    return Choice(
        backend=backend, base=base, config=config, settings=settings, capabilities=capabilities, notes=tuple(notes)
    )


def _refuse_unsupported(backend: Backend, capabilities: Capabilities, config: RunConfig) -> None:
    """Raise UnsupportedError for what the backend declares that it cannot do."""
    train, name = config.train, backend.name
    if train.method not in capabilities.methods:
        can = ", ".join(sorted(capabilities.methods))
        raise UnsupportedError(
            f"The backend {name!r} cannot train by {train.method!r}.",
            remedy=f"Set train.method (--method) to one that it can: {can}. Or choose a model of another backend.",
        )
    most = capabilities.max_epochs
    if most is not None and isinstance(train.epochs, int) and train.epochs > most:
        raise UnsupportedError(
            f"The backend {name!r} trains at most {most} epochs, not {train.epochs}.",
            remedy=f"Set train.epochs (--epochs) to {most} or less, or to auto.",
        )
    if train.seed and not capabilities.seed:
        raise UnsupportedError(f"The backend {name!r} takes no seed.", remedy="Leave out train.seed (--seed).")
    if config.data.validation:
        _refuse_validation(backend, capabilities)


def _refuse_validation(backend: Backend, capabilities: Capabilities) -> None:
    if not capabilities.validation:
        raise UnsupportedError(
            f"The backend {backend.name!r} takes no validation rows.",
            remedy="Leave out data.validation (--validation); data.holdout keeps rows for the comparison.",
        )


def refuse_bad_data(result: CheckResult, config: RunConfig) -> None:
    """Raise DataError for data with errors, unless they only reject rows and the config says to skip those."""
    standing = [one for one in result.diagnostics if one.severity == "error"]
    if config.data.on_error == "skip" and result.used:
        standing = [one for one in standing if one.line is None]
    if not standing:
        return
    shown = "\n".join(f"  {one_line(str(one))}" for one in standing[:3])
    name = one_line(result.file or "the data")
    method = "" if config.train.method == "sft" else f" --method {config.train.method}"
    errors = sum(result.counts.get(code, 0) for code in {one.code for one in standing})
    cures = [f"See them all: tuneport check {name} --for {config.model}{method}."]
    if "shape-not-taken" not in result.counts:
        cures.append(f"Fix what can be fixed: tuneport fix {name} -o clean.jsonl.")
    if result.used:
        cures.append("Or leave rejected rows out and count them: data.on_error: skip.")
    raise DataError(
        f"{name} has {errors} {'error' if errors == 1 else 'errors'}; "
        f"{result.rejected} of {result.read} rows are rejected:\n{shown}",
        remedy=" ".join(cures),
        diagnostics=standing,
    )
