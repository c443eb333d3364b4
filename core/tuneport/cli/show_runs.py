"""What the commands for runs, jobs and models print."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tuneport.contract.events import Status, utc_now
from tuneport.terminal.outlet import Part, console, is_terminal, say, say_lines
from tuneport.terminal.tables import print_table
from tuneport.units import amount, duration, money, size

if TYPE_CHECKING:
    from datetime import datetime

    from tuneport.contract.plan import Plan, Quantity
    from tuneport.contract.state import JobState
    from tuneport.evaluate import Comparison
    from tuneport.refs import Ref
    from tuneport.workflow import JobDescription, JobSummary, ModelSummary, RunResult, Split

_TIMES = {"worked": "working", "queued": "queued", "idle": "paused"}
_IN_STATE_LINE = ("step", "total_steps", "seconds_left")


def show_split(split: Split) -> None:
    """Print how many rows each part has."""
    say("rows  " + ", ".join(f"{count:,} {part}" for part, count in split.counts().items() if count))


def show_plan(plan: Plan) -> None:
    """Print what a run would do and cost, each number with its error and source."""
    labels = {"seconds": "time", "usd": "money"}
    amounts: dict[str, Quantity] = {
        labels.get(name, name): getattr(plan, name)
        for name in ("tokens", "epochs", "steps", "seconds", "memory", "usd")
    }
    rows = [(label, str(one), one.error or "", one.source) for label, one in amounts.items()]
    print_table(("", "planned", "error", "source"), rows)
    if plan.reasons:
        print_table(("setting", "value", "why"), list(_settings_with_reasons(plan.resolved, plan.reasons)))
    for note in plan.notes:
        say(f"  {note}")


def show_run(result: RunResult) -> None:
    """Print the comparison, where the report is, and what to type next."""
    if result.comparison:
        say_lines(f"{result.comparison}\n")
    ref = result.job.ref
    if result.report:
        say(f"report   {result.report}")
        say(f'ask it   tuneport ask {ref} "…"')
        if remedy := result.job.state().remedy:  # there is a model, and the user must still do something about it
            say(f"to do    {remedy}")
    else:
        status = result.job.status
        next_step = f"Follow it: tuneport watch {ref}"
        if status.terminal:
            next_step = "The same command without --no-wait finishes the rest."
        say(f"{ref} {status_phrase(status)[0]}. {next_step}")


def show_jobs(found: Sequence[JobSummary], *, filtered: bool = False) -> None:
    """Print the table of jobs."""
    from rich.cells import cell_len, set_cell_size

    if not found and filtered:
        say("No job matches. To see all jobs: tuneport jobs", err=True)
        return
    if not found:
        say(
            "No jobs have been started from this machine yet. Start one: tuneport run FILE --model torch:smollm2-135m",
            err=True,
        )
        return
    rows = [_job_row(one) for one in found]
    taken = sum(max(cell_len(_text(row[column])) for row in rows) + 2 for column in range(6))
    room = max(30, console().width - taken) if is_terminal() else 80  # `tuneport show` prints all of it
    for row in rows:
        last = _text(row[-1])
        row[-1] = last if cell_len(last) <= room else f"{set_cell_size(last, room - 1).rpartition(' ')[0]} …"
    print_table(("job", "status", "step", "score", "base", "started", ""), rows)


def _job_row(one: JobSummary) -> list[Part]:
    from tuneport.evaluate.text import percent

    steps = f"{one.step}/{one.total_steps}" if one.total_steps else ""
    remark = f"{duration(one.seconds_left)} left" if one.seconds_left else (one.stale or one.message)
    if one.status in (Status.SUCCEEDED, Status.CANCELLED):
        remark = ""  # the status says it all
    status = _with_color(one.status, f"{one.status} (last known)" if one.stale else None)
    score = "" if one.score is None else percent(one.score)
    if one.base_score is not None:
        score = f"{percent(one.base_score)} → {score}"
    return [str(one.ref), status, steps, score, str(one.base), _time_ago(one.created), remark.split("\n")[0]]


def show_models(found: Sequence[ModelSummary]) -> None:
    """Print the table of models."""
    presence = {True: "yes", False: "no", None: "unknown"}
    rows = [(str(one.ref), one.kind, presence[one.present], one.description) for one in found]
    print_table(("model", "kind", "on this machine", ""), rows)


def show_job(job: JobDescription) -> None:
    """Print one job: its state, figures, checkpoints and lineage."""
    show_state(job.ref, job.state)
    if job.missing:
        say((job.missing, "yellow"))
    times = asdict(job.times) if job.times else {}
    rows = [(_TIMES[name], duration(seconds)) for name, seconds in times.items() if seconds]
    rows += [
        (name, f"{value:,.6g}" if isinstance(value, float) else str(value))
        for name, value in (job.metrics or {}).items()
        if name not in _IN_STATE_LINE
    ]
    rows += [("checkpoint", f"{one.name}{' (best)' if one.best else ''}") for one in job.checkpoints]
    rows += _detail_rows(job.state.details)
    rows += _lineage_rows(job)
    if job.comparison:
        rows.append(("score", _score_text(job.comparison)))
    if job.report:
        rows.append(("report", str(job.report)))
    if job.lineage and not job.missing:
        rows.append(("ask it", f'tuneport ask {job.ref} "…"'))
    print_table(("", ""), rows, head=False)


def show_state(ref: Ref, state: JobState) -> None:
    """Print the status of a job on one line, and what to type about it."""
    steps = f", step {state.step:,} of {state.total_steps:,}" if state.total_steps else ""
    adds_something = state.message.rstrip(".").lower() not in ("", str(state.status))
    message = f": {state.message}" if adds_something else ""
    say(f"{ref} ", status_phrase(state.status), f"{steps}{message}")
    if state.remedy:
        say(state.remedy)


def exit_code_of(status: Status) -> int:
    """The exit code of a command that followed a job until this status."""
    return {Status.SUCCEEDED: 0, Status.FAILED: 1, Status.CANCELLED: 1}.get(status, 3)


def status_phrase(status: Status) -> tuple[str, str]:
    """A status as a predicate, `is running` or `has succeeded`, and its color."""
    verbs = {Status.SUCCEEDED: "has", Status.FAILED: "has", Status.CANCELLED: "was"}
    return _with_color(status, f"{verbs.get(status, 'is')} {status}")


def _lineage_rows(job: JobDescription) -> Iterator[tuple[str, str]]:
    from tuneport.reports import lineage_facts

    lineage = job.lineage.to_dict() if job.lineage else {}
    yield from ((name, text) for name, text in lineage_facts(lineage) if name not in ("job", "versions"))
    if str(job.root_base) not in (str(job.ref), lineage.get("base")):
        yield "root base", str(job.root_base)


def _detail_rows(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the backend adds to a job's state, such as its log and cost, then the settings that training uses."""
    forms: Mapping[str, tuple[str, Callable[[float], str]]] = {"usd": ("cost", money), "peak_memory": ("memory", size)}
    for name, value in details.items():
        if name in forms and isinstance(value, int | float):
            label, form = forms[name]
            yield label, form(value)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            yield name.replace("_", " "), str(value)
    resolved, reasons = (details.get(name) for name in ("resolved", "reasons"))
    if isinstance(resolved, Mapping) and isinstance(reasons, Mapping):
        yield from ((name, f"{value} ({why})") for name, value, why in _settings_with_reasons(resolved, reasons))


def _settings_with_reasons(resolved: Mapping[str, Any], reasons: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The settings that training uses, in the order of their reasons: name, value and reason."""
    for name, why in reasons.items():
        if name in resolved:
            yield name.replace("_", " "), amount(resolved[name]), str(why)


def _score_text(found: Comparison) -> str:
    from tuneport.evaluate.text import percent

    before = f"{percent(found.base.mean)} → " if found.base else ""
    return f"{before}{percent(found.tuned.mean)}, {found.grader}, over {found.rows:,} rows"


def _with_color(status: Status, text: str | None = None) -> tuple[str, str]:
    colors = {Status.SUCCEEDED: "green", Status.FAILED: "red", Status.INTERRUPTED: "yellow", Status.RUNNING: "cyan"}
    return text or str(status), colors.get(status, "")


def _text(part: Part) -> str:
    return part if isinstance(part, str) else part[0]


def _time_ago(then: datetime) -> str:
    return f"{duration((utc_now() - then).total_seconds())} ago"
