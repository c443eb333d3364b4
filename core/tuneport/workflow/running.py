"""A config carried through its stages: check, plan, submit, train, compare, report."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.contract.events import Status
from tuneport.contract.patience import Patience
from tuneport.contract.plan import Plan
from tuneport.doors import public
from tuneport.errors import TuneportError, WaitTimeout
from tuneport.ledger import Ledger, RunRecord
from tuneport.workflow import starting
from tuneport.workflow.advice import fit_of, with_notes
from tuneport.workflow.budget import refuse_over_budget
from tuneport.workflow.comparing import compare_rows
from tuneport.workflow.naming import with_base
from tuneport.workflow.observer import RunObserver
from tuneport.workflow.preparing import prepare
from tuneport.workflow.reporting import report

if TYPE_CHECKING:
    from tuneport.config import RunConfig
    from tuneport.contract.job import Job
    from tuneport.contract.model import Model
    from tuneport.dataset import CheckResult
    from tuneport.evaluate import Comparison
    from tuneport.workflow.split import Split


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The result of a run: its job and, if the run has reached them, the comparison and the report."""

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
    on: RunObserver | None = None,
) -> RunResult:
    """Carry a config, or a config file, through all its stages. The same call continues where an earlier one stopped.

    Everything is checked before anything is spent. A paused or interrupted job is resumed. With `wait=False`, return
    once the job is submitted. If you stop waiting (Ctrl-C), the job keeps running. `again` starts a new job even if
    the same one has finished. `on` receives each stage. Raises ConfigError, DataError, BudgetError and what the backend
    refuses, before anything starts; JobFailed and JobCancelled if training does not end with a model; WaitTimeout if
    the service cannot be reached while the job keeps running.
    """
    from tuneport.config import RunConfig, load_config

    observer = on or RunObserver()
    loaded = with_base(config if isinstance(config, RunConfig) else load_config(config))
    split, checked, prepared = prepare(loaded, observer)
    estimate = with_notes(prepared.plan(), loaded, checked, split.train, split.holdout)
    observer.on_plan(estimate)
    with Ledger.open() as ledger:
        record = ledger.begin_run(prepared.identity, loaded.to_dict(), again=again)
        ledger.advance(record.id, "checked", checked.to_dict())
        is_known = not again and starting.find_live_or_finished(ledger, prepared) is not None
        if not is_known:
            refuse_over_budget(estimate, loaded)
            ledger.advance(record.id, "planned", estimate.to_dict())  # once: a later plan would know the outcome
        job = starting.start(prepared, again=again, run=record.id)
        ledger.advance(record.id, "submitted", {"job": str(job.ref), **split.counts()})
        with _job_keeps_running(job):
            model = _train(ledger, job, observer, replay=not is_known, wait=wait)
            if model is None:
                return RunResult(job=job, check=checked, plan=estimate)
            comparison = _compare(ledger, record, job, model, split, loaded, observer)
            samples = [] if comparison else _ask_samples(ledger, record, job, model, split)
            ledger.advance(record.id, "trained", {"job": str(job.ref), "samples": samples})
            page = report(job.ref)
            ledger.advance(record.id, "reported", {"job": str(job.ref), "path": str(page)})
            observer.on_report(page)
    return RunResult(job=job, check=checked, plan=estimate, comparison=comparison, report=page)


def plan_run(config: RunConfig) -> tuple[Plan, Split]:
    """What `run` would do and cost, and how it would split the rows. Starts, sends and spends nothing."""
    config = with_base(config)
    split, checked, prepared = prepare(config, RunObserver(), to_plan=True)
    return with_notes(prepared.plan(), config, checked, split.train, split.holdout), split


def _train(ledger: Ledger, job: Job, observer: RunObserver, *, replay: bool, wait: bool) -> Model | None:
    """Resume the job if it is idle, then wait for its model; None without `wait`. Earlier events count as new only with
    `replay`.
    """
    observer.on_submit(job)
    patience = Patience(job)
    status = patience.ask(job.state).status
    seen = 0
    if wait and not replay:
        seen = max((event.seq for event in patience.ask(job.events)), default=0)
    if status in (Status.INTERRUPTED, Status.PAUSED):
        job.resume()
        observer.on_resume(job)
    if not wait:
        return None
    model = job.result() if status is Status.SUCCEEDED else job.wait(on_event=observer.on_event, after=seen)
    ledger.keep_state(job.ref, patience.ask(job.state))
    observer.on_train(model)
    return model


@contextmanager
def _job_keeps_running(job: Job) -> Iterator[None]:
    """Turn a temporary fault into WaitTimeout: it ends this run alone, and the job or its model is still there."""
    try:
        yield
    except TuneportError as error:
        if not error.passing:
            raise
        raise WaitTimeout(
            f"{error.message} As far as is known, the job {job.ref} keeps running.",
            remedy="Run the same command again in a while: it finishes the rest.",
        ) from error


def _compare(
    ledger: Ledger,
    record: RunRecord,
    job: Job,
    model: Model,
    split: Split,
    config: RunConfig,
    observer: RunObserver,
) -> Comparison | None:
    """The comparison on the holdout. If the ledger has it for the same model, rows and settings, nothing is asked."""
    from tuneport.evaluate import AUTO, Comparison, Record, grader

    if split.holdout is None or not len(split.holdout):
        return None
    wanted = config.compare
    rows = split.holdout if wanted.rows is None else split.holdout.sample(wanted.rows, seed=config.train.row_seed)
    answers = None if wanted.record is None else Record.open(wanted.record)
    fingerprint = "" if answers is None else answers.fingerprint
    key = hashlib.sha256(f"{job.ref} {wanted.model_dump_json()} {rows.fingerprint}{fingerprint}".encode()).hexdigest()
    done = ledger.run(record.id).results.get("compared", {})
    if done.get("key") == key:
        comparison = Comparison.from_dict(done["comparison"])
    else:
        name = fit_of(split.train, split.holdout).grader if wanted.grader == AUTO else wanted.grader
        comparison = compare_rows(
            model,
            rows,
            grader=grader(name, **wanted.options),
            base=None if wanted.base else False,
            max_tokens=wanted.max_tokens,
            schema=wanted.json_schema,
            record=answers,
            progress=observer.on_answer,
        )
        ledger.advance(record.id, "compared", {"job": str(job.ref), "key": key, "comparison": comparison.to_dict()})
    observer.on_compare(comparison)
    return comparison


def _ask_samples(
    ledger: Ledger, record: RunRecord, job: Job, model: Model, split: Split, rows: int = 3
) -> list[dict[str, str]]:
    """The model's answers to a few rows, of validation if there are any, for runs without a holdout. The ledger keeps
    them, because loading a model takes time, and asking a hosted one costs money.
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
