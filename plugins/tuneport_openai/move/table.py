"""An account's jobs as a table or as CSV, and the dates on which models end."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tuneport.plugin import many, one_line, print_table, say
from tuneport_openai.wire import closing

if TYPE_CHECKING:
    from tuneport_openai.move.account import Account
    from tuneport_openai.move.old_job import OldFile, OldJob
    from tuneport_openai.wire.profiles import Profile

COLUMNS = (
    "job",
    "status",
    "base",
    "method",
    "settings",
    "created",
    "tokens",
    "cost",
    "loss",
    "checkpoints",
    "files",
    "answers",
)
_SHORT = {"n_epochs": "epochs", "batch_size": "batch", "learning_rate_multiplier": "rate ×"}
_LOSSES = ("full_valid_loss", "valid_loss", "train_loss")  # the most informative first
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute these


def print_account(account: Account, profile: Profile) -> None:
    """Print the jobs, a summary, and what ends when."""
    if not account.jobs:
        say(f"{account.profile} has no fine-tuning jobs that this key can see.")
    else:
        print_table(COLUMNS, [_row(one) for one in account.jobs])
        say()
        for line in summary(account):
            say(line)
    for line in endings(account, profile):
        say(line)
    for note in account.notes:
        say(("note:", "bold"), f" {note}")
    trained = [one for one in account.jobs if one.model]
    if trained:
        say(bring_home(account.profile, trained[0]))


def bring_home(profile: str, job: OldJob) -> str:
    """What to type to bring a job home."""
    plain = "".join(one if one.isalnum() else "-" for one in (job.suffix or "moved")).strip("-") or "moved"
    return f"Bring it home: tuneport move {shlex.quote(profile)} --job {shlex.quote(job.id)} -o {plain}"


def print_job(job: OldJob) -> None:
    """Print everything known of a job, one fact a line."""
    facts = [
        *zip(COLUMNS[1:], _row(job)[1:], strict=True),
        ("suffix", job.suffix or ""),
        ("model", job.model or ""),
        ("error", job.error or ""),
        *((name, _file(one)) for name, one in _named_files(job)),
        *((f"step {one.step:,}", f"{one.model} ({_figures(one.metrics)})") for one in job.checkpoints or ()),
        *(("metadata", f"{key}: {value}") for key, value in job.metadata.items()),
    ]
    say((job.id, "bold"))
    width = max(len(name) for name, value in facts if value)
    for name, value in facts:
        if value:
            say("  ", (name.ljust(width), "dim"), f"  {value}")


def summary(account: Account) -> list[str]:
    """The jobs by status, the tokens trained and their cost, and how many models and files still exist."""
    jobs = account.jobs
    counts = ", ".join(f"{count:,} {status}" for status, count in Counter(one.status for one in jobs).most_common())
    lines = [f"{many(len(jobs), 'job')}: {counts}"]
    tokens = [one.trained_tokens for one in jobs if one.trained_tokens is not None]
    costs = [one.usd for one in jobs if one.usd is not None]
    if tokens:
        paid = f", about ${sum(costs):,.2f} by the price table for {len(costs):,} of them" if costs else ""
        lines.append(f"{sum(tokens):,} tokens trained{paid}")
    models = [one for one in jobs if one.model]
    listed = [one for one in models if one.listed]
    if models:
        unknown = sum(one.listed is None for one in models)
        still = "it is unknown which are still listed" if unknown else f"{len(listed):,} still on the list of models"
        lines.append(f"{many(len(models), 'tuned model')}, {still}")
    lost = [one for one in jobs if one.training_file is not None and one.training_file.there is False]
    if lost:
        lines.append(f"The training file of {many(len(lost), 'job')} is no longer there.")
    return lines


def endings(account: Account, profile: Profile) -> list[str]:
    """When the creation of jobs ends, and when models are shut down."""
    announced = closing.announcement(profile)
    lines = [f"{announced}."] if announced else []
    ends = Counter((one.ends, one.base) for one in account.jobs if one.model and one.ends is not None)
    for (when, base), count in sorted(ends.items()):
        if when is not None:
            lines.append(f"{many(count, 'model')} tuned from {base}: shut down on {closing.day(when)}")
    return lines


def csv_text(account: Account) -> str:
    """All jobs as CSV with a header. A text that a spreadsheet would read as a formula gets a leading `'`."""
    rows = [_flat(one) for one in account.jobs]
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["id"]
    writer = csv.DictWriter(out, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _row(job: OldJob) -> list[str]:
    return [
        job.id,
        job.status,
        job.base or "unknown",
        job.method,
        settings(job),
        f"{job.created:%Y-%m-%d}" if job.created else "unknown",
        f"{job.trained_tokens:,}" if job.trained_tokens is not None else "",
        f"${job.usd:,.2f}" if job.usd is not None else "",
        _loss(job),
        "" if job.checkpoints is None else f"{len(job.checkpoints):,}",
        _files(job),
        _answers(job),
    ]


def settings(job: OldJob) -> str:
    """The hyperparameters and the seed, short."""
    used = [f"{_SHORT.get(name, name)} {value!s:.40}" for name, value in job.hyperparameters.items()]
    return ", ".join([*used, *([f"seed {job.seed}"] if job.seed is not None else [])]).replace("× ", "×")


def _loss(job: OldJob) -> str:
    name = next((one for one in _LOSSES if one in job.metrics), None)
    return f"{job.metrics[name]:.4g}" if name is not None else ""


def _figures(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()) or "no figures"


def _named_files(job: OldJob) -> list[tuple[str, OldFile]]:
    named = [("training", job.training_file), ("validation", job.validation_file)]
    return [(name, one) for name, one in [*named, *(("result", file) for file in job.result_files)] if one is not None]


def _file(file: OldFile) -> str:
    facts = [file.name, f"{file.bytes:,} bytes" if file.bytes is not None else None]
    text = ", ".join([one for one in facts if one] + (["no longer there"] if file.there is False else []))
    return f"{file.id} ({text})" if text else file.id


def _files(job: OldJob) -> str:
    """Which data files are gone."""
    named = (("training", job.training_file), ("validation", job.validation_file))
    gone = [name for name, one in named if one is not None and one.there is False]
    if gone:
        return f"{' and '.join(gone)} gone"
    known = [one for _, one in named if one is not None]
    return "there" if known and all(one.there for one in known) else "" if not known else "unknown"


def _answers(job: OldJob) -> str:
    if job.model is None:
        return ""
    if job.listed is False:
        return "no"
    until = f", until {job.ends:%Y-%m-%d}" if job.ends else ""
    return f"listed{until}" if job.listed else f"unknown{until}"


def _flat(job: OldJob) -> dict[str, Any]:
    facts = job.to_dict()
    for name in ("training_file", "validation_file"):
        facts |= _file_columns(name, getattr(job, name))
    facts["result_files"] = " ".join(one.id for one in job.result_files)
    facts["checkpoints"] = "" if job.checkpoints is None else len(job.checkpoints)
    for name in ("hyperparameters", "metrics"):
        facts |= {f"{name}.{key}": value for key, value in facts.pop(name).items()}
    facts["metadata"] = json.dumps(facts["metadata"], ensure_ascii=False) if facts["metadata"] else ""
    return facts


def _file_columns(name: str, file: OldFile | None) -> dict[str, Any]:
    if file is None:
        return {name: None}
    return {name: file.id, f"{name}.name": file.name, f"{name}.bytes": file.bytes, f"{name}.there": file.there}


def _cell(value: object) -> object:
    if isinstance(value, str):
        line = one_line(value)
        return f"'{line}" if line.startswith(_FORMULA) else line
    return value
