"""What each command prints of what it found, for a person."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tuneport.contract.events import Status, utc_now
from tuneport.errors import DataError
from tuneport.terminal.outlet import Part, console, folded, is_terminal, say, say_json, say_lines
from tuneport.terminal.tables import print_table, working
from tuneport.units import amount, duration, money, size

if TYPE_CHECKING:
    from datetime import datetime

    from tuneport.contract.job import Job
    from tuneport.contract.plan import Plan, Quantity
    from tuneport.contract.state import JobState
    from tuneport.dataset import CheckResult, DataRules, Dataset, FixResult
    from tuneport.evaluate import Comparison
    from tuneport.loader import PluginInfo
    from tuneport.refs import Ref
    from tuneport.workflow import HealthCheck, JobSummary, ModelSummary, Prunable, RunResult, Split

_TIMES = {"worked": "at work", "queued": "in the queue", "idle": "paused"}
_SAID_ABOVE = ("step", "total_steps", "seconds_left")
_COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}


def check_result(result: CheckResult, *, everything: bool = False, target: str | None = None) -> None:
    """The counts, then the findings by code: how many, the first with its place, and the remedy."""
    against = f" for {target}" if target else ""
    say((result.file or "data", "bold"), f" {result.format}{against}")
    say(f"  read {result.read:,} = used {result.used:,} + rejected {result.rejected:,}")
    for lines in result.stats.lines(plain=not is_terminal()):
        say_lines("\n".join(f"  {line}" for line in lines.split("\n")))
    shown: dict[str, int] = {}
    for one in result.diagnostics:
        seen = shown[one.code] = shown.get(one.code, 0) + 1
        if seen > 1 and one.line is not None and not everything:  # what is said of the whole file is said once
            continue
        count = result.counts[one.code]
        times = f" ({count:,} times)" if seen == 1 and count > 1 and one.line is not None else ""
        place = "".join(f"{mark}{part}" for mark, part in ((" line ", one.line), (" ", one.pointer)) if part)
        say((one.severity, _COLORS[one.severity]), " ", (one.code, "bold"), f"{times}{place}")
        say(f"    {one.message}")
        if seen == 1:
            say((f"    → {one.remedy}", "dim"))
    say((f"fingerprint {result.fingerprint[:16]}…", "dim"))
    if not result.diagnostics:
        say(("no problems found", "green"))


def fix_result(result: FixResult) -> None:
    """What was mended, row by row, and the counts."""
    for change in result.changes:
        where = f"line {change.line}" if change.line else "a row"
        say(f"{where}{' ' + change.pointer if change.pointer else ''}: {change.action} ({change.code})")
        if change.message:
            say(f"    {change.message}")
        for sign, text in (("-", change.before), ("+", change.after)):
            if text is not None:  # quoted: what was mended are often white space and control characters
                say(f"    {sign} {json.dumps(text, ensure_ascii=False)}")
    if (more := sum(result.counts.values()) - len(result.changes)) > 0:
        say(f"and {more:,} more changes")
    say(f"read {result.read:,} = written {result.written:,} + dropped {result.dropped:,}")
    say(f"Wrote {result.path}")


def previews(data: Dataset, rules: DataRules | None, rows: int, *, as_json: bool) -> None:
    """A few rows as the model sees them, what is trained on marked; without a model, as the rows were understood."""
    from itertools import islice

    from tuneport.dataset import coloured, plain, untokenised

    with working(f"Reading {data.name}"):
        pieces = data.preview(rules, rows) if rules else [untokenised(one) for one in islice(data, rows)]
    if not pieces:
        raise DataError(f"{data.name} has no row that can be used.", remedy=f"See why: tuneport check {data.name}")
    if as_json:
        shown = [[{"text": p.text, "weight": p.weight, "tokens": p.tokens} for p in row] for row in pieces]
        say_json({"rows": shown, "notes": data.readings(rules, rows)})
        return
    for sentence in data.readings(rules, rows):
        say(("note: ", "cyan"), sentence)
    for number, row in enumerate(pieces, 1):
        say((f"row {number}", "dim"))
        if is_terminal():
            for line in folded(coloured(row), console().width):
                console().print(line)
        else:
            say_lines(plain(row))


def split(parts: Split) -> None:
    """How many rows fall where."""
    say("rows  " + ", ".join(f"{count:,} {part}" for part, count in parts.counts().items() if count))


def plan(foretold: Plan) -> None:
    """What a run would do and cost, each number with its error and source."""
    labels = {"seconds": "time", "usd": "money"}
    amounts: dict[str, Quantity] = {
        labels.get(name, name): getattr(foretold, name)
        for name in ("tokens", "epochs", "steps", "seconds", "memory", "usd")
    }
    rows = [(label, str(one), one.error or "", one.source) for label, one in amounts.items()]
    print_table(("", "planned", "error", "source"), rows)
    if foretold.reasons:
        print_table(("setting", "value", "why"), list(used(foretold.resolved, foretold.reasons)))
    for note in foretold.notes:
        say(f"  {note}")


def used(resolved: Mapping[str, Any], reasons: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The settings that training uses: name, value and why, in the order of their reasons."""
    for name, why in reasons.items():
        if name in resolved:
            yield name.replace("_", " "), amount(resolved[name]), str(why)


def run_result(result: RunResult) -> None:
    """Base beside tuned, where the page is, and what to type next."""
    if result.comparison:
        say_lines(f"{result.comparison}\n")
    ref = result.job.ref
    if result.report:
        say(f"report   {result.report}")
        say(f'ask it   tuneport ask {ref} "…"')
        if remedy := result.job.state().remedy:  # the model is there, and something about it is left to do
            say(f"to do    {remedy}")
    else:
        status = result.job.status
        what_next = f"Follow it: tuneport watch {ref}"
        if status.terminal:
            what_next = "The same command without --no-wait finishes what is left."
        say(f"{ref} {standing(status)[0]}. {what_next}")


def jobs(found: Sequence[JobSummary], *, filtered: bool = False) -> None:
    """The table of jobs."""
    from rich.cells import cell_len, set_cell_size

    from tuneport.evaluate.text import percent

    if not found and filtered:
        say("No job here is like that. See them all: tuneport jobs", err=True)
        return
    if not found:
        say(
            "No job was started from this machine yet. Start one: tuneport run FILE --model torch:smollm2-135m",
            err=True,
        )
        return
    rows: list[list[Part]] = []
    for one in found:
        steps = f"{one.step}/{one.total_steps}" if one.total_steps else ""
        left = f"{duration(one.seconds_left)} left" if one.seconds_left else (one.stale or one.message)
        if one.status in (Status.SUCCEEDED, Status.CANCELLED):
            left = ""  # the status says it all
        now = _status(one.status, f"{one.status} (last known)" if one.stale else None)
        score = "" if one.score is None else percent(one.score)
        if one.base_score is not None:
            score = f"{percent(one.base_score)} → {score}"
        rows.append([str(one.ref), now, steps, score, str(one.base), _ago(one.created), left.split("\n")[0]])
    taken = sum(max(cell_len(_text(row[column])) for row in rows) + 2 for column in range(6))
    room = max(30, console().width - taken) if is_terminal() else 80  # `show` tells the whole
    for row in rows:
        last = _text(row[-1])
        row[-1] = last if cell_len(last) <= room else f"{set_cell_size(last, room - 1).rpartition(' ')[0]} …"
    print_table(("job", "status", "step", "score", "base", "started", ""), rows)


def models(found: Sequence[ModelSummary]) -> None:
    """The table of models."""
    there = {True: "yes", False: "no", None: "unknown"}
    rows = [(str(one.ref), one.kind, there[one.present], one.description) for one in found]
    print_table(("model", "kind", "on this machine", ""), rows)


def job_facts(job: Job) -> dict[str, Any]:
    """All that is known of one job, JSON-ready."""
    from tuneport.reports.times import times_of
    from tuneport.workflow import found_comparison, look_at, open_backend, root_base, written_report

    state = look_at(job)
    over = state.status is Status.SUCCEEDED
    lineage = job.result().lineage if over else None
    events = list(job.events())
    metrics = [dict(event.data) for event in events if event.kind == "metric"]
    times = times_of(events, state.to_dict())
    compared = found_comparison(job.ref)
    return {
        "ref": str(job.ref),
        "state": state.to_dict(),
        "missing": (open_backend(job.ref.backend).missing(job.ref.name) if over else "") or None,
        "report": str(page) if (page := written_report(job.ref)) else None,
        "seconds": asdict(times) if times else None,
        "metrics": metrics[-1] if metrics else None,
        "checkpoints": [
            {
                "name": one.name,
                "step": one.step,
                "best": one.best,
                "created": one.created.isoformat(),
                "metrics": dict(one.metrics),
            }
            for one in job.checkpoints()
        ],
        "lineage": lineage.to_dict() if lineage else None,
        "root_base": str(root_base(job.ref)),
        "score": _score(compared) if compared else None,
    }


def _score(compared: Comparison) -> dict[str, Any]:
    return {
        "base": compared.base.mean if compared.base else None,
        "tuned": compared.tuned.mean,
        "grader": compared.grader,
        "rows": compared.rows,
        "trained_on": compared.trained_on,
    }


def job(handle: Job) -> None:
    """One job, for a person."""
    from tuneport.evaluate.text import percent
    from tuneport.reports.lineage import lineage_facts

    facts = job_facts(handle)
    state(handle.ref, handle.state())
    if facts["missing"]:
        say((facts["missing"], "yellow"))
    rows = [(_TIMES[name], duration(seconds)) for name, seconds in (facts["seconds"] or {}).items() if seconds]
    rows += [
        (name, f"{value:,.6g}" if isinstance(value, float) else str(value))
        for name, value in (facts["metrics"] or {}).items()
        if name not in _SAID_ABOVE
    ]
    rows += [("checkpoint", f"{one['name']}{' (best)' if one['best'] else ''}") for one in facts["checkpoints"]]
    details = facts["state"]["details"]
    rows += _details(details)
    resolved, reasons = (details.get(name) for name in ("resolved", "reasons"))
    if isinstance(resolved, Mapping) and isinstance(reasons, Mapping):
        rows += [(name, f"{value} ({why})") for name, value, why in used(resolved, reasons)]
    rows += [(name, said) for name, said in lineage_facts(facts["lineage"] or {}) if name not in ("job", "versions")]
    if facts["root_base"] not in (str(handle.ref), (facts["lineage"] or {}).get("base")):
        rows.append(("root base", facts["root_base"]))
    if score := facts["score"]:
        before = f"{percent(score['base'])} → " if score["base"] is not None else ""
        rows.append(("score", f"{before}{percent(score['tuned'])}, {score['grader']}, over {score['rows']:,} rows"))
    if facts["report"]:
        rows.append(("report", facts["report"]))
    if facts["lineage"] and not facts["missing"]:
        rows.append(("ask it", f'tuneport ask {handle.ref} "…"'))
    print_table(("", ""), rows, head=False)


def _details(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a backend says of a job beyond its state, such as where its log is and what it cost."""
    forms: Mapping[str, tuple[str, Callable[[float], str]]] = {"usd": ("cost", money), "peak_memory": ("memory", size)}
    for name, value in details.items():
        if name in forms and isinstance(value, int | float):
            words, form = forms[name]
            yield words, form(value)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            yield name.replace("_", " "), str(value)


def state(ref: Ref, now: JobState) -> None:
    """One line of where a job stands, and what to type about it."""
    steps = f", step {now.step:,} of {now.total_steps:,}" if now.total_steps else ""
    says_more = now.message.rstrip(".").lower() not in ("", str(now.status))
    why = f": {now.message}" if says_more else ""
    say(f"{ref} ", standing(now.status), f"{steps}{why}")
    if now.remedy:
        say(now.remedy)


def exit_code(status: Status) -> int:
    """The exit code of a command that followed a job to this status."""
    return {Status.SUCCEEDED: 0, Status.FAILED: 1, Status.CANCELLED: 1}.get(status, 3)


def plugins(infos: Sequence[PluginInfo]) -> None:
    """The table of plugins."""
    looks = {"ready": ("ready", "green"), "broken": ("BROKEN", "red"), "off": ("off", ""), "needs": ("needs", "yellow")}
    print_table(
        ("plugin", "version", "API", "backends", "status", "from"),
        [
            (
                one.name,
                one.version,
                str(one.api or "?"),
                ", ".join(one.backends),
                looks[one.status],
                one.origin,
            )
            for one in infos
        ],
    )
    for one in infos:
        if one.reason:
            say(f"{one.name}: {one.reason.rstrip('.')}. {one.remedy or ''}".rstrip())


def findings(found: Sequence[HealthCheck]) -> None:
    """What doctor saw."""
    for one in found:
        say(("ok " if one.ok else "BAD", "green" if one.ok else "red"), f" {one.what}: {one.said}")
        if one.remedy:
            say(f"    → {one.remedy}")


def prunable(found: Sequence[Prunable]) -> None:
    """What prune would remove."""
    if not found:
        say("There is nothing to free.", err=True)
        return
    for one in found:
        say(f"{size(one.bytes):>10}  {one.what}")
    say(f"{size(sum(one.bytes for one in found)):>10}  in all")


def standing(status: Status) -> tuple[str, str]:
    """A status as what a sentence says of its job, and its color: `is running`, `has succeeded`."""
    over = {Status.SUCCEEDED: "has", Status.FAILED: "has", Status.CANCELLED: "was"}
    return _status(status, f"{over.get(status, 'is')} {status}")


def _status(status: Status, text: str | None = None) -> tuple[str, str]:
    colors = {Status.SUCCEEDED: "green", Status.FAILED: "red", Status.INTERRUPTED: "yellow", Status.RUNNING: "cyan"}
    return text or str(status), colors.get(status, "")


def _text(part: Part) -> str:
    return part if isinstance(part, str) else part[0]


def _ago(then: datetime) -> str:
    return f"{duration((utc_now() - then).total_seconds())} ago"
