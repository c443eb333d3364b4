"""From a base model and a dataset to a plan, and to a job that runs; what can be refused is refused first."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuneport.contract.backend import Backend
from tuneport.contract.capabilities import Method
from tuneport.contract.events import Status
from tuneport.contract.notebook import MemoryNotebook, Notebook
from tuneport.contract.patience import Patience
from tuneport.contract.plan import Plan
from tuneport.contract.request import TrainRequest, TrainSettings
from tuneport.doors import public
from tuneport.errors import (
    BudgetError,
    DataError,
    JobError,
    JobNotFinished,
    JobNotFound,
    NotFoundError,
    TuneportError,
    UnavailableError,
    UnsupportedError,
    UsageError,
)
from tuneport.ledger import JobRecord, Ledger
from tuneport.loader import availability, closing_note, load
from tuneport.notebook import LedgerNotebook, attach_notebook
from tuneport.printable import one_line
from tuneport.refs import Ref
from tuneport.workflow import trained_rows
from tuneport.workflow.loading import load_dataset
from tuneport.workflow.naming import bases_by_backend, find_ref

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tuneport.config import RunConfig
    from tuneport.contract.job import Job
    from tuneport.dataset import CheckResult, DataRules, Dataset

    Rows = Dataset | str | Path | Iterable[Any]

_ASK_SECONDS = 60.0  # how long a busy service is borne before anything is started
# Raised by a backend that has certainly not started anything.
_REFUSALS = (UsageError, DataError, UnavailableError, UnsupportedError, NotFoundError, BudgetError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A backend, a base and settings that go together; only the rows are missing."""

    backend: Backend
    base: Ref
    config: RunConfig
    settings: BaseModel

    def check(self, rows: Dataset, *held_out: Dataset | None) -> CheckResult:
        """Rows against the backend's rules and against leaks from held-out ones; its `dataset` is what may be used."""
        return self._checked(rows, self.backend.rules(self.base.name), held_out)

    def sound_validation(self, rows: Dataset, *held_out: Dataset | None) -> Dataset:
        """The rows to steer by, of which few will do. Raises DataError where an error stands."""
        checked = self._checked(rows, replace(self.backend.rules(self.base.name), min_rows=1), held_out)
        refuse_bad_data(checked, self.config)
        return checked.dataset

    def _checked(self, rows: Dataset, rules: DataRules, held_out: Iterable[Dataset | None]) -> CheckResult:
        against = [one for one in held_out if one is not None]
        config = self.config
        return rows.check(rules, method=config.train.method, against=against, too_long=config.data.too_long)

    def with_rows(
        self, train: Dataset, validation: Dataset | None = None, metadata: Mapping[str, str] | None = None
    ) -> Prepared:
        """The training of these rows, which were checked."""
        return Prepared(
            backend=self.backend,
            base=self.base,
            config=self.config,
            settings=self.settings,
            train=train,
            validation=validation,
            metadata=dict(metadata or {}),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Choice):
    """A training that could start now: nothing is missing, nothing is written yet."""

    train: Dataset
    validation: Dataset | None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """What makes two starts the same: base, options, settings and rows."""
        from tuneport.config import identity

        parts = [self.train] if self.validation is None else [self.train, self.validation]
        return identity(self.config, self.settings, [part.fingerprint for part in parts])

    @property
    def options(self) -> TrainSettings:
        """The portable settings."""
        return self.config.train.options(too_long=self.config.data.too_long)

    def plan(self) -> Plan:
        """What starting it would do and cost."""
        return self.backend.plan(self.request(name="plan"))

    def request(self, intent: str = "", name: str = "", notebook: Notebook | None = None) -> TrainRequest:
        """What the backend gets."""
        return TrainRequest(
            intent=intent,
            name=name,
            base=self.base,
            train=self.train,
            validation=self.validation,
            options=self.options,
            settings=self.settings,
            metadata=self.metadata,
            budget_usd=self.config.budget.usd,
            notebook=notebook or MemoryNotebook(),
        )


@public()
def train(
    base: str | Ref,
    data: Rows,
    *,
    validation: Rows | None = None,
    method: Method = "sft",
    epochs: int | Literal["auto"] = "auto",
    seed: int | None = 0,
    suffix: str | None = None,
    too_long: Literal["stop", "drop", "truncate"] = "stop",
    settings: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    again: bool = False,
    before_start: Callable[[], object] | None = None,
) -> Job:
    """Start a training and return at once; it outlives this process.

    `settings` are the backend's own (its section of a config file). The same training over the same rows finds the job
    that lives or succeeded, unless `again`. `before_start` is called when everything is checked and nothing is written
    or sent yet; if it raises, nothing is started. Raises DataError, ConfigError, UnavailableError, UnsupportedError or
    a NotFoundError before anything is started.
    """
    choice = choose(_config(base, method, epochs, seed, suffix, too_long, settings))
    steering = None if validation is None else opened(validation)
    checked = choice.check(opened(data), steering)
    refuse_bad_data(checked, choice.config)
    steering = choice.sound_validation(steering) if steering is not None else None
    if before_start is not None:
        before_start()
    return start(choice.with_rows(checked.dataset, steering, metadata), again=again)


@public()
def plan(
    base: str | Ref,
    data: Rows,
    *,
    validation: Rows | None = None,
    method: Method = "sft",
    epochs: int | Literal["auto"] = "auto",
    seed: int | None = 0,
    too_long: Literal["stop", "drop", "truncate"] = "stop",
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    """What `train` with the same arguments would do and cost. Starts, sends and spends nothing."""
    choice = choose(_config(base, method, epochs, seed, None, too_long, settings), to_plan=True)
    return choice.with_rows(opened(data), None if validation is None else opened(validation)).plan()


def opened(data: Rows) -> Dataset:
    """A dataset as it is; whatever else, such as a path or a list of rows, loaded."""
    from tuneport.dataset import Dataset

    return data if isinstance(data, Dataset) else load_dataset(data)


def choose(config: RunConfig, *, to_plan: bool = False) -> Choice:
    """Find the backend that a config names, and validate everything but the rows. `to_plan`: nothing is to be started,
    so a backend that cannot start now will do if it can plan.
    """
    from tuneport.config import backend_settings

    base = config.ref
    backend = load().backend(base.backend)
    if config.train.method not in backend.capabilities.methods:
        can = ", ".join(sorted(backend.capabilities.methods))
        raise UnsupportedError(
            f"The backend {backend.name!r} cannot train by {config.train.method!r}.",
            remedy=f"Set train.method (--method) to one that it can: {can}. Or choose a model of another backend.",
        )
    settings = backend_settings(config, backend.name, backend.settings_class)
    answer = availability(backend)
    if not answer.ready and not (to_plan and answer.plans):
        remedy = " ".join(filter(None, (closing_note(backend, config.train.method), answer.remedy)))
        raise UnavailableError(
            f"The backend {backend.name!r} cannot be used here: {answer.reason}.", remedy=remedy or None
        )
    backend.check_base(base.name)
    return Choice(backend=backend, base=base, config=config, settings=settings)


def refuse_bad_data(result: CheckResult, config: RunConfig) -> None:
    """Raise DataError when an error stands, unless it only rejects rows and the config says to skip those."""
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
        cures.append(f"Mend what can be mended: tuneport fix {name} -o clean.jsonl.")
    if result.used:
        cures.append("Or leave rejected rows out and count them: data.on_error: skip.")
    raise DataError(
        f"{name} has {errors} {'error' if errors == 1 else 'errors'}; "
        f"{result.rejected} of {result.read} rows are rejected:\n{shown}",
        remedy=" ".join(cures),
        diagnostics=standing,
    )


def start(prepared: Prepared, *, again: bool = False, run: str | None = None) -> Job:
    """Write the intent down, then ask the backend; unless `again`, the live or finished job of the same identity."""
    backend = prepared.backend
    with Ledger.open() as ledger:
        if not again:
            live_or_finished(ledger, prepared)
        record = ledger.record_intent(
            backend=backend.name,
            base=prepared.base,
            identity=prepared.identity,
            fingerprint=prepared.train.fingerprint,
            stem=prepared.config.train.suffix or _stem(prepared.train),
            method=prepared.config.train.method,
            config=prepared.config.to_dict(),
            settings=prepared.settings.model_dump(mode="json"),
            metadata=prepared.metadata,
            run=run,
            reserved=_reserved(backend),
            reuse=not again,
        )
        if record.intent_state in ("confirmed", "unconfirmed"):
            return _begun(backend, record)
        trained_rows.remember(record.ref, prepared.train)
        try:
            ledger.sent(record.intent)
        except UsageError:  # another process that starts the same training has come further meanwhile
            return _begun(backend, ledger.job(record.ref))
        return _ask(ledger, prepared, record)


def _begun(backend: Backend, record: JobRecord) -> Job:
    """The job of a start that is over, however it ended."""
    if record.intent_state == "confirmed":
        return attach_notebook(backend.job(record.ref.name))
    if record.intent_state == "failed":
        raise JobNotFound(f"{record.ref} was not started: {record.reason}", remedy="Run the same command again.")
    raise JobNotFinished(
        f"{record.ref} may have been started by an earlier call, and nobody could learn whether. It is not "
        "sent again, so that nothing is paid for twice.",
        ref=str(record.ref),
        status=Status.UNCONFIRMED,
        remedy=f"Run: tuneport settle {record.ref}",
    )


def live_or_finished(ledger: Ledger, prepared: Prepared) -> JobRecord | None:
    """The job that a start would find instead of starting another. The ledger's word on it is brought up to date first:
    a job that failed meanwhile must not stand in the way.
    """
    while (known := ledger.find_live_or_finished(prepared.identity)) is not None:
        if known.intent_state != "confirmed":
            return known
        try:
            job = prepared.backend.job(known.ref.name)
            state = Patience(job, time.monotonic() + _ASK_SECONDS).ask(job.state)
        except NotFoundError:
            trained_rows.forget(known.ref)
            ledger.forget(known.ref)  # its folder was removed by hand, or the service has deleted it
            continue
        updated = ledger.heard(known.ref, state)
        if updated.status not in (Status.FAILED, Status.CANCELLED):
            return updated
    return None


def _ask(ledger: Ledger, prepared: Prepared, record: JobRecord) -> Job:
    request = prepared.request(record.intent, record.ref.name, LedgerNotebook(record.ref, record.intent))
    try:
        job = prepared.backend.start(replace(request, metadata={**request.metadata, "intent": record.intent}))
    except TuneportError as error:
        with suppress(UsageError):  # another process has it confirmed; what is told is what happened here
            if isinstance(error, JobError):
                ledger.doubt(record.intent)
            elif isinstance(error, _REFUSALS):
                ledger.fail(record.intent, error.message.removeprefix(f"{prepared.backend.name}: "))
        raise
    ledger.confirm(record.intent)
    return attach_notebook(job)


def _config(
    base: str | Ref,
    method: str,
    epochs: int | str,
    seed: int | None,
    suffix: str | None,
    too_long: str,
    settings: Mapping[str, Any] | None,
) -> RunConfig:
    """The config that says what a call says: one way to validate, one way to tell two trainings apart."""
    from tuneport.config import config_from_flags

    ref = find_ref(base)
    train = {"method": method, "epochs": epochs, "suffix": suffix}
    return config_from_flags(
        {
            "model": str(ref),
            "train": {key: value for key, value in train.items() if value is not None} | {"seed": seed},
            "data": {"too_long": too_long},
            "backends": {ref.backend: dict(settings)} if settings else None,
        }
    )


def _stem(data: Dataset) -> str:
    return data.files[0].name.partition(".")[0] if data.files else ""


def _reserved(backend: Backend) -> Collection[str]:
    [found] = bases_by_backend(backend).values()  # one that cannot say has no names to reserve
    return set() if isinstance(found, Exception) else {info.ref.name for info in found}
