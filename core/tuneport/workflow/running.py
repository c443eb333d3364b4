"""A config carried through its stages: checked, planned, submitted, trained, compared, reported."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.contract.events import Status, utc_now
from tuneport.contract.patience import Patience
from tuneport.contract.plan import Plan
from tuneport.doors import public
from tuneport.errors import (
    BudgetError,
    DataError,
    NotFoundError,
    OptionError,
    TuneportError,
    UnsupportedError,
    WaitTimeout,
)
from tuneport.ledger import Ledger, RunRecord
from tuneport.refs import Ref
from tuneport.units import finite
from tuneport.workflow import starting
from tuneport.workflow.advice import fit_of, with_notes
from tuneport.workflow.judging import compare_rows
from tuneport.workflow.loading import load_dataset
from tuneport.workflow.naming import with_base
from tuneport.workflow.opening import default_report, open_backend, open_job

if TYPE_CHECKING:
    from tuneport.config import RunConfig
    from tuneport.contract.job import Job
    from tuneport.contract.model import Model
    from tuneport.dataset import CheckResult, Dataset
    from tuneport.evaluate import Comparison
    from tuneport.reports import Beside

Sink = Callable[[str, Any], None]
"""Is told what happens: `checked` CheckResult, `split` Split, `planned` Plan, `submitted` Job, `resumed` Job, `event`
Event, `trained` Model, `answering` (rows done, rows, "base" or "tuned"), `compared` Comparison, `reported` Path.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The rows of a run: trained on, steering the training, and kept for the comparison alone."""

    train: Dataset
    validation: Dataset | None
    holdout: Dataset | None

    def counts(self) -> dict[str, int]:
        """Rows of each part."""
        return {
            "train": len(self.train),
            "validation": len(self.validation) if self.validation is not None else 0,
            "holdout": len(self.holdout) if self.holdout is not None else 0,
        }


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Where a run came to: the job and, where the run has come so far, comparison and report."""

    job: Job
    check: CheckResult
    plan: Plan
    comparison: Comparison | None = None
    report: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "ref": str(self.job.ref),
            "state": self.job.state().to_dict(),
            "check": self.check.to_dict(),
            "plan": self.plan.to_dict(),
            "comparison": self.comparison.to_dict() if self.comparison else None,
            "report": str(self.report) if self.report else None,
        }


@public()
def run(
    config: RunConfig | str | Path,
    *,
    again: bool = False,
    wait: bool = True,
    on: Sink | None = None,
) -> RunResult:
    """Carry a config, or a config file, through its stages, and go on where an earlier call of the same stood.

    Everything is checked before anything is spent. A paused or interrupted job is resumed. Without `wait`, return once
    the job is submitted. Stopping to wait (Ctrl-C) leaves the job running. `again` starts anew what has finished
    already.
    """
    from tuneport.config import RunConfig, load_config

    tell = on or _silent
    loaded = with_base(config if isinstance(config, RunConfig) else load_config(config))
    split, checked, prepared = _check_and_split(loaded, tell)
    foretold = with_notes(prepared.plan(), loaded, checked, split.train, split.holdout)
    tell("planned", foretold)
    with Ledger.open() as ledger:
        record = ledger.begin_run(prepared.identity, loaded.to_dict(), again=again)
        ledger.advance(record.id, "checked", checked.to_dict())
        is_known = not again and starting.live_or_finished(ledger, prepared) is not None
        if not is_known:
            refuse_over_budget(foretold, loaded)
            ledger.advance(record.id, "planned", foretold.to_dict())  # once: a plan made later knows how it went
        job = starting.start(prepared, again=again, run=record.id)
        ledger.advance(record.id, "submitted", {"job": str(job.ref), **split.counts()})
        with _job_goes_on(job):
            tell("submitted", job)
            patience = Patience(job)
            status = patience.ask(job.state).status
            told = max((event.seq for event in patience.ask(job.events)), default=0) if is_known and wait else 0
            if status in (Status.INTERRUPTED, Status.PAUSED):
                job.resume()
                tell("resumed", job)
            if not wait:
                return RunResult(job=job, check=checked, plan=foretold)
            # What had happened before this call was told when it happened.
            over = status is Status.SUCCEEDED
            model = job.result() if over else job.wait(on_event=lambda event: tell("event", event), after=told)
            ledger.heard(job.ref, patience.ask(job.state))
            tell("trained", model)
            comparison = _compared(ledger, record, job, model, split, loaded, tell)
            samples = [] if comparison else _sampled(ledger, record, job, model, split)
            ledger.advance(record.id, "trained", {"job": str(job.ref), "samples": samples})
            page = report(job.ref)
            ledger.advance(record.id, "reported", {"job": str(job.ref), "path": str(page)})
            tell("reported", page)
    return RunResult(job=job, check=checked, plan=foretold, comparison=comparison, report=page)


@contextmanager
def _job_goes_on(job: Job) -> Iterator[None]:
    """Say of a passing fault that it ended this run alone: the job, or what it made, is still there."""
    try:
        yield
    except TuneportError as error:
        if not error.passing:
            raise
        raise WaitTimeout(
            f"{error.message} The job {job.ref} itself goes on, as far as is known.",
            remedy="Run the same command again in a while: it finishes what is left.",
        ) from error


def plan_run(config: RunConfig) -> tuple[Plan, Split]:
    """What `run` would do and cost, and how the rows fall. Starts, sends and spends nothing."""
    config = with_base(config)
    split, checked, prepared = _check_and_split(config, _silent, to_plan=True)
    return with_notes(prepared.plan(), config, checked, split.train, split.holdout), split


def split_of(config: RunConfig) -> Split:
    """How the rows of a config fall. Starts and spends nothing."""
    return _check_and_split(with_base(config), _silent, to_plan=True)[0]


def refuse_over_budget(plan: Plan, config: RunConfig) -> None:
    """Raise BudgetError when the plan passes a limit of the config, or cannot say that it does not."""
    hours = None if plan.seconds.value is None else plan.seconds.value / 3600
    limits = (
        ("usd", config.budget.usd, plan.usd.value, plan.usd.source, "US dollars"),
        ("hours", config.budget.hours, hours, plan.seconds.source, "hours"),
    )
    for key, limit, value, source, unit in limits:
        if limit is None or (value is not None and value <= limit):
            continue
        said = f"is planned to take {value:.2f} {unit}" if value is not None else f"takes an unknown number of {unit}"
        cure = f"Train on fewer rows or epochs, or raise budget.{key}."
        if value is None:
            cure = f"What is unknown cannot be held to a limit: set what is named above, if any, or drop budget.{key}."
        raise BudgetError(
            f"The run {said} ({source}); budget.{key} allows {limit:g}.", remedy=f"Nothing was started. {cure}"
        )


@public()
def report(ref: str | Ref, path: str | Path | None = None, *, paths: bool = False) -> Path:
    """Write the HTML page of a job (into home, or to `path`) and return where it is. The page names files without
    their folders, so that it can be sent to others; `paths` keeps the folders.
    """
    from tuneport.reports import ReportData, Sample, without_paths, write_report

    job = open_job(ref)
    state = job.state()
    results = run_results(job.ref)
    trained = results.get("trained", {})
    lineage = job.result().lineage if state.status is Status.SUCCEEDED else None
    missing = open_backend(job.ref.backend).missing(job.ref.name) if lineage else ""
    with Ledger.open() as ledger:
        record = ledger.heard(job.ref, state)
    page = ReportData(
        ref=str(job.ref),
        base=str(record.base),
        created=utc_now(),
        state={**state.to_dict(), "missing": missing},
        events=tuple(job.events()),
        config={
            **(record.config or {"model": str(record.base)}),
            "backends": {record.ref.backend: dict(record.settings)},
        },
        lineage=lineage.to_dict() if lineage else {},
        plan=results.get("planned"),
        check=results.get("checked"),
        comparison=found_comparison(job.ref),
        beside=_recorded_training(record.config),
        samples=tuple(Sample(**one) for one in trained.get("samples", ()) if trained.get("job") == str(job.ref)),
        usd=finite(state.details.get("usd")),
        machine={name: value for name, value in state.details.items() if isinstance(value, str)},
    )
    return write_report(Path(path) if path else default_report(job.ref), page if paths else without_paths(page))


def _recorded_training(config: Mapping[str, Any] | None) -> Beside | None:
    """The training of the record that the run's config names, while it is there to be read."""
    from tuneport.evaluate import Record
    from tuneport.reports import Beside

    folder = ((config or {}).get("compare") or {}).get("record")
    if not folder:
        return None
    with suppress(DataError):  # the folder may be gone: the report of what was trained here needs it not
        kept = Record.open(folder)
        return Beside(model=kept.model, events=tuple(kept.events()))
    return None


def found_comparison(ref: Ref) -> Comparison | None:
    """What the run of a job found when it compared the job's model, if it did."""
    from tuneport.evaluate import Comparison

    compared = run_results(ref).get("compared", {})
    return Comparison.from_dict(compared["comparison"]) if compared.get("job") == str(ref) else None


def _refuse_schema(config: RunConfig) -> None:
    """Refuse a schema that answers of the backend's models cannot follow, before anything is spent."""
    schema = config.compare.json_schema
    if schema is None:
        return
    base = open_backend(config.ref.backend).model(config.ref.name)
    if "schema" not in base.takes:
        raise UnsupportedError(
            f"compare.json_schema: {config.ref} does not support a schema.",
            option="schema",
            remedy="Remove json_schema, or choose a model of a backend that supports it.",
        )
    try:
        base.check_schema(schema)
    except OptionError as error:
        raise OptionError(f"compare.json_schema: {error.message}", option="schema", remedy=error.remedy) from error


def _silent(stage: str, payload: object) -> None:
    del stage, payload


def _check_and_split(
    config: RunConfig, tell: Sink, *, to_plan: bool = False
) -> tuple[Split, CheckResult, starting.Prepared]:
    """Refuse what can be refused, and let the rows that may be used fall into their parts."""
    from tuneport.evaluate import AUTO, Record, grader

    data = config.data
    if data.train is None:
        raise DataError("The config names no rows to train on.", remedy="Set data.train, or name a file.")
    named = config.compare.grader
    judge = None if named == AUTO else grader(named, **config.compare.options)
    if config.compare.record is not None:
        Record.open(config.compare.record)  # a missing or damaged one is found before anything is spent
    choice = starting.choose(config, to_plan=to_plan)
    _refuse_schema(config)
    validation, holdout = _file(config, data.validation), _file(config, data.holdout)
    # Only rows from files of their own could leak into training: parts that we split off cannot.
    checked = choice.check(_opened(config, data.train), holdout, validation)
    tell("checked", checked)
    starting.refuse_bad_data(checked, config)
    if validation is not None:
        validation = choice.sound_validation(validation, holdout)
    split = _split(config, checked.dataset, validation, holdout)
    if split.holdout is not None:
        judge = judge or grader(fit_of(split.train, split.holdout).grader, **config.compare.options)
        if not (to_plan and judge.runs_own_code):  # a plan runs nobody's code
            judge.rehearse(split.holdout)  # finds a grader that cannot read these rows before anything is spent
    tell("split", split)
    return split, checked, choice.with_rows(split.train, split.validation)


def _split(config: RunConfig, rows: Dataset, validation: Dataset | None, holdout: Dataset | None) -> Split:
    shares = {
        part: value
        for part, value in (("holdout", config.data.holdout), ("validation", config.data.validation))
        if isinstance(value, float) and value
    }
    parts = iter(rows.split(**shares, seed=config.train.row_seed) if shares else (rows,))
    return Split(
        train=next(parts),
        validation=next(parts) if "validation" in shares else validation,
        holdout=next(parts) if "holdout" in shares else holdout,
    )


def _file(config: RunConfig, value: float | str | None) -> Dataset | None:
    return _opened(config, value) if isinstance(value, str) else None


def _opened(config: RunConfig, source: str) -> Dataset:
    data = config.data
    return load_dataset(
        source, data.format, data.columns or None, system=data.system, encoding=data.encoding, sheet=data.sheet
    )


def _compared(
    ledger: Ledger,
    record: RunRecord,
    job: Job,
    model: Model,
    split: Split,
    config: RunConfig,
    tell: Sink,
) -> Comparison | None:
    from tuneport.evaluate import AUTO, Comparison, Record, grader

    if split.holdout is None or not len(split.holdout):
        return None
    asked = config.compare
    rows = split.holdout if asked.rows is None else split.holdout.sample(asked.rows, seed=config.train.row_seed)
    record_of = None if asked.record is None else Record.open(asked.record)
    answered = "" if record_of is None else record_of.fingerprint
    key = hashlib.sha256(f"{job.ref} {asked.model_dump_json()} {rows.fingerprint}{answered}".encode()).hexdigest()
    done = ledger.run(record.id).results.get("compared", {})
    named = fit_of(split.train, split.holdout).grader if asked.grader == AUTO else asked.grader
    if done.get("key") == key:
        comparison = Comparison.from_dict(done["comparison"])
    else:
        comparison = compare_rows(
            model,
            rows,
            grader=grader(named, **asked.options),
            base=None if asked.base else False,
            max_tokens=asked.max_tokens,
            schema=asked.json_schema,
            record=record_of,
            tell=lambda done, total, who: tell("answering", (done, total, who)),
        )
        ledger.advance(record.id, "compared", {"job": str(job.ref), "key": key, "comparison": comparison.to_dict()})
    tell("compared", comparison)
    return comparison


def _sampled(
    ledger: Ledger, record: RunRecord, job: Job, model: Model, split: Split, rows: int = 3
) -> list[dict[str, str]]:
    """What the model answers to a few rows, where no holdout is compared: validation's where there are any. It is asked
    once: loading it takes its time, and a hosted one its money.
    """
    from tuneport.evaluate import prompt_and_reference

    done = ledger.run(record.id).results.get("trained", {})
    if done.get("job") == str(job.ref) and done["samples"]:
        return list(done["samples"])
    asked = [prompt_and_reference(one) for one in islice(split.validation or split.train, rows)]
    replies = model.reply_many([prompt for prompt, _ in asked], max_tokens=128)
    return [
        {"prompt": prompt[-1].text, "answer": reply.text, "reference": reference}
        for (prompt, reference), reply in zip(asked, replies, strict=True)
    ]


def run_results(ref: Ref) -> dict[str, Any]:
    """What the stages of the job's run left, if it was a run's."""
    with Ledger.open() as ledger:
        try:
            record = ledger.job(ref)
        except NotFoundError:
            return {}
        return dict(ledger.run(record.run).results) if record.run else {}
