"""From a base model and a dataset to a plan and a running job; what can be refused is refused first."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuneport.contract.backend import Backend
from tuneport.contract.capabilities import Method
from tuneport.contract.events import Status
from tuneport.contract.patience import Patience
from tuneport.contract.plan import Plan
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
from tuneport.files import lock_file
from tuneport.homefolder import home
from tuneport.ledger import JobRecord, Ledger
from tuneport.notebook import LedgerNotebook, attach
from tuneport.refs import Ref
from tuneport.workflow import trained_rows
from tuneport.workflow.choosing import Prepared, choose, refuse_bad_data
from tuneport.workflow.loading import load_dataset
from tuneport.workflow.naming import bases_by_backend, find_ref

if TYPE_CHECKING:
    from tuneport.config import RunConfig
    from tuneport.contract.job import Job
    from tuneport.dataset import Dataset

    Rows = Dataset | str | Path | Iterable[Any]

_ASK_SECONDS = 60.0  # how long a busy service is retried before anything is started
# Raised by a backend that has certainly not started anything.
_REFUSALS = (UsageError, DataError, UnavailableError, UnsupportedError, NotFoundError, BudgetError)


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
    """Start a training and return at once; it continues after this process.

    `settings` are the backend's own (its section of a config file). The same training over the same rows returns the
    job that is running or has succeeded, unless `again`. A `seed` of None leaves the seed to the backend.
    `before_start` is called when everything is checked and nothing is written or sent yet; if it raises, nothing is
    started. Raises DataError, ConfigError, UnavailableError, UnsupportedError or a NotFoundError before anything is
    started.
    """
    choice = choose(_config(base, method, epochs, seed, suffix, too_long, settings))
    held_out = None if validation is None else open_rows(validation)
    checked = choice.check(open_rows(data), held_out)
    refuse_bad_data(checked, choice.config)
    prepared = choice.with_rows(
        checked.dataset, None if held_out is None else choice.check_validation(held_out), metadata
    )
    if before_start is not None:
        before_start()
    return start(prepared, again=again)


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
    return choice.with_rows(open_rows(data), None if validation is None else open_rows(validation)).plan()


def open_rows(data: Rows) -> Dataset:
    """A dataset as it is; anything else, such as a path or a list of rows, loaded."""
    from tuneport.dataset import Dataset

    return data if isinstance(data, Dataset) else load_dataset(data)


def start(prepared: Prepared, *, again: bool = False, run: str | None = None) -> Job:
    """Write down the intent, then ask the backend, under a lock of the intent: no two processes or threads ask it at
    once. Unless `again`, returns the running or finished job of the same identity.
    """
    backend, choice = prepared.backend, prepared.choice
    with Ledger.open() as ledger:
        if not again:
            find_live_or_finished(ledger, prepared)
        record = ledger.record_intent(
            backend=backend.name,
            base=choice.base,
            identity=prepared.identity,
            fingerprint=prepared.train.fingerprint,
            stem=choice.config.train.suffix or _stem(prepared.train),
            method=choice.config.train.method,
            config=choice.config.to_dict(),
            settings=choice.settings.model_dump(mode="json"),
            metadata=prepared.metadata,
            run=run,
            reserved=_reserved_names(backend),
            reuse=not again,
        )
        if record.intent_state in ("confirmed", "unconfirmed"):
            return _open_started(backend, record)
        trained_rows.remember(record.ref, prepared.train)
        with lock_file(start_lock(record.intent)):
            try:
                ledger.mark_sent(record.intent)
            except UsageError:  # another process has started the same training meanwhile
                return _open_started(backend, ledger.job(record.ref))
            return _ask(ledger, prepared, record)


def start_lock(intent: str) -> Path:
    """The file whose lock a start holds while it asks the backend."""
    return home("locks") / intent


def _open_started(backend: Backend, record: JobRecord) -> Job:
    """The job of a start that has ended, however it ended."""
    if record.intent_state == "confirmed":
        return attach(backend, backend.job(record.ref.name))
    if record.intent_state == "failed":
        raise JobNotFound(f"{record.ref} was not started: {record.reason}", remedy="Run the same command again.")
    raise JobNotFinished(
        f"{record.ref} may have been started by an earlier call, which could not be confirmed. It is not sent again, "
        "so that nothing is paid for twice.",
        ref=str(record.ref),
        status=Status.UNCONFIRMED,
        remedy=f"Run: tuneport settle {record.ref}",
    )


def find_live_or_finished(ledger: Ledger, prepared: Prepared) -> JobRecord | None:
    """The job that a start would return instead of starting another. Its status is read first: a job that has failed
    meanwhile is not returned.
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
        updated = ledger.keep_state(known.ref, state)
        if updated.status not in (Status.FAILED, Status.CANCELLED):
            return updated
    return None


def _ask(ledger: Ledger, prepared: Prepared, record: JobRecord) -> Job:
    request = prepared.request(record.intent, record.ref.name, LedgerNotebook(record.ref, record.intent))
    try:
        job = prepared.backend.start(replace(request, metadata={**request.metadata, "intent": record.intent}))
    except TuneportError as error:
        with suppress(UsageError):  # another process has it confirmed; the error is what happened here
            if isinstance(error, JobError):
                ledger.doubt(record.intent)
            elif isinstance(error, _REFUSALS):
                ledger.fail(record.intent, error.message.removeprefix(f"{prepared.backend.name}: "))
        raise
    ledger.confirm(record.intent)
    return attach(prepared.backend, job)


def _config(
    base: str | Ref,
    method: str,
    epochs: int | str,
    seed: int | None,
    suffix: str | None,
    too_long: str,
    settings: Mapping[str, Any] | None,
) -> RunConfig:
    """The same as a config: one way to validate, and one way to compare two trainings."""
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


def _reserved_names(backend: Backend) -> Collection[str]:
    [found] = bases_by_backend(backend).values()  # one that cannot say has no names to reserve
    return set() if isinstance(found, Exception) else {info.ref.name for info in found}
