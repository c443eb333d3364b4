"""`tuneport move`: what an account has, and a job of it brought home."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuneport import UsageError, confirmed, say, say_json, say_lines, working

if TYPE_CHECKING:
    from tuneport import CheckResult, Dataset
    from tuneport_openai.client import Wire
    from tuneport_openai.move.answers import Price
    from tuneport_openai.move.bring import Brought

_TERMS = (
    "The terms of vendors restrict what their models' answers may be used for; OpenAI's forbid models that compete "
    "with its own. Whether yours is allowed is for you to decide."
)


def move(
    profile: Annotated[
        str,
        typer.Argument(metavar="PROFILE", help="Where the jobs are: openai, azure, or a name of tuneport profiles."),
    ],
    job: Annotated[
        str | None, typer.Option("--job", metavar="ID", help="Bring this job home; without it, all jobs are listed.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="The folder for the job, made if needed.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="REF", help="What to train next, such as torch:smollm2-135m or azure:gpt-4.1."),
    ] = None,
    training_file: Annotated[
        Path | None,
        typer.Option("--training-file", metavar="FILE", help="Your copy of a training file that is gone there."),
    ] = None,
    validation_file: Annotated[
        Path | None,
        typer.Option("--validation-file", metavar="FILE", help="Your copy of a validation file that is gone there."),
    ] = None,
    answers: Annotated[
        int | None,
        typer.Option("--answers", metavar="N", min=1, help="Ask the old model N rows, and keep its answers."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="The rows to ask, instead of those of the validation file."),
    ] = None,
    distill: Annotated[
        bool, typer.Option("--distill", help="Make training rows of the answers; see the vendor's terms first.")
    ] = False,
    budget: Annotated[
        float | None, typer.Option("--budget", metavar="USD", min=0.0, help="The most that the answers may cost.")
    ] = None,
    price: Annotated[
        str | None,
        typer.Option("--price", metavar="IN,OUT", help="US dollars per million tokens, where the price is not known."),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", metavar="N", min=1, help="The longest answer, in tokens.")
    ] = None,
    deployment: Annotated[
        str | None,
        typer.Option("--deployment", metavar="NAME", help="The name under which the old model answers at Azure."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the list of jobs as CSV.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """List the fine-tuning jobs of an account, or bring one home.

    A job comes with its data, settings, curves, and the old model's answers.

    Nothing is created, changed or deleted there. Only --answers costs money; it says how much first, and asks.
    """
    from tuneport_openai import profiles
    from tuneport_openai.client import Wire
    from tuneport_openai.move.download import LARGEST

    wire = Wire(profiles.checked_address(profiles.profile(profile)), largest_file=LARGEST)
    if job is None:
        given = (output, model, training_file, validation_file, answers, data, budget, price, max_tokens, deployment)
        if distill or any(one is not None for one in given):
            raise UsageError("That is for one job.", remedy=f"Name it: tuneport move {profile} --job ID")
        return _list(wire, csv=csv, json=json)
    if csv:
        raise UsageError("--csv prints the list of jobs.", remedy="Leave out --job, or use --json.")
    if output is None:
        raise UsageError("Where shall the job go?", remedy="Name a folder: -o FOLDER")
    if answers is None and (distill or data or budget is not None or price or max_tokens or deployment):
        raise UsageError(
            "--data, --distill, --budget, --price, --max-tokens and --deployment belong to --answers.",
            remedy="Add --answers N",
        )
    brought = _bring(wire, job, output, training_file, validation_file)
    from tuneport_openai.move.bring import check_rows

    found = check_rows(brought)
    told: dict[str, Any] = {}
    if answers is not None:
        from tuneport_openai.move.answers import price_of

        told = _ask(
            wire,
            brought,
            answers,
            data,
            distill=distill,
            budget=budget,
            price=price_of(wire, brought.job.base, price),
            max_tokens=max_tokens,
            deployment=deployment,
            yes=yes,
        )
    _finish(wire, brought, found, model, told, json=json)
    return 0


def add_to(app: Any) -> None:
    """Add the command to the application."""
    app.command("move")(move)


def _list(wire: Wire, *, csv: bool, json: bool) -> int:
    from tuneport_openai import vendors
    from tuneport_openai.move.account import read_account
    from tuneport_openai.move.table import csv_text, endings, print_account

    with working(f"Reading the jobs of {wire.profile.name}"):
        account = read_account(wire)
    if json:
        say_json(
            {
                "profile": account.profile,
                "address": account.address,
                "jobs": [one.to_dict() for one in account.jobs],
                "ends": endings(account, wire.profile),
                "closing": vendors.closing(wire.profile),
                "notes": list(account.notes),
            }
        )
    elif csv:
        say_lines(csv_text(account).removesuffix("\n"))
    else:
        print_account(account, wire.profile)
    return 0


def _bring(wire: Wire, job_id: str, folder: Path, training: Path | None, validation: Path | None) -> Brought:
    from tuneport_openai.move.account import read_job
    from tuneport_openai.move.bring import bring

    with working(f"Asking {wire.profile.name} for {job_id}"):
        job = read_job(wire, job_id)
    with working(f"Bringing {job_id} home"):
        return bring(wire, job, folder.absolute(), training_file=training, validation_file=validation)


def _ask(
    wire: Wire,
    brought: Brought,
    count: int,
    data: Path | None,
    *,
    distill: bool,
    budget: float | None,
    price: Price | None,
    max_tokens: int | None,
    deployment: str | None,
    yes: bool,
) -> dict[str, Any]:
    """Ask the old model, after its cost was said, and write the rows that its answers stand beside or make."""
    from tuneport_openai.move import answers

    rows = answers.rows_to_ask(brought, count, data, distill=distill)
    cost = answers.cost_of(wire, brought, rows, max_tokens, price)
    before = answers.spent_on(brought)
    say(f"Asking {brought.job.model or brought.job.id}: {cost}.", err=True)
    if before:
        say(f"Spent on it before: about ${before:,.2f}.", err=True)
    answers.refuse_over_budget(cost, budget, before)
    if distill:
        say(_TERMS, err=True)
    if not confirmed("Ask it?", yes=yes):
        return {"asked": 0}
    with working(f"Asking {brought.job.model} {len(rows):,} rows"):
        record, ended = answers.ask(
            wire, brought, rows, price=price, deployment=deployment, max_tokens=max_tokens, budget=budget
        )
    if ended:
        say(ended, err=True)
    kept = [one for one in rows if record.answer_to(one) is not None]
    if distill:
        _write_rows(brought, list(record.with_answers(rows)), answers.DISTILLED)
    else:
        _write_rows(brought, kept, answers.HOLDOUT)
        _write_rest(brought, rows, data)
    return {"asked": len(rows), "answered": len(kept), "usd": answers.spent_on(brought), "ended": ended or None}


def _write_rows(brought: Brought, rows: list[Any], name: str) -> None:
    from tuneport import Dataset

    path = brought.folder / name
    path.unlink(missing_ok=True)
    if rows:
        Dataset.from_examples(rows).write(path)


def _write_rest(brought: Brought, asked: Dataset, data: Path | None) -> None:
    """The validation rows that were not asked: training may be steered by them, and by no others."""
    from tuneport import Dataset
    from tuneport_openai.move.bring import REST

    if brought.validation is None or data is not None:
        return
    keys = {_content(one) for one in asked}
    _write_rows(brought, [one for one in Dataset.load(brought.validation) if _content(one) not in keys], REST)


def _content(example: Any) -> str:
    import msgspec

    return hashlib.sha256(msgspec.json.encode(example)).hexdigest()


def _finish(
    wire: Wire,
    brought: Brought,
    found: CheckResult | None,
    model: str | None,
    told: dict[str, Any],
    *,
    json: bool,
) -> None:
    from tuneport_openai.move.bases import proposals
    from tuneport_openai.move.config import parts_of, write_config

    parts = parts_of(brought)
    proposed = [] if model else proposals(None if found is None else found.dataset, brought.job.method)
    config, notes = write_config(brought, parts, model, proposed, profile=wire.profile.name)
    notes = [*brought.notes, *notes]
    if json:
        say_json(
            {
                "folder": str(brought.folder),
                "job": brought.job.to_dict(),
                "gone": list(brought.gone),
                "notes": notes,
                "check": found.to_dict() if found is not None else None,
                "answers": told or None,
                "config": str(config),
                "bases": [{"model": one.model, "about": str(one)} for one in proposed],
            }
        )
        return
    _print_brought(brought, found, told)
    for note in notes:
        say(("note:", "bold"), f" {note}")
    for line in brought.gone:
        say(("gone:", "bold yellow"), f" {line}")
    say(f"Wrote {config}.")
    if proposed:
        say("Choose a base model, and add it to the same command or to the file:")
        for one in proposed:
            say(f"  --model {one}")
    elif parts.training is not None:
        say(f"Look at it, then: cd {brought.folder} && tuneport run {config.name}")


def _print_brought(brought: Brought, found: CheckResult | None, told: dict[str, Any]) -> None:
    job = brought.job
    used = ", ".join(f"{name} {value}" for name, value in job.hyperparameters.items())
    say((job.id, "bold"), f" {job.status}: {job.base}, {job.method}{f', {used}' if used else ''}")
    if job.model:
        say(f"  model       {job.model}")
    if brought.training is not None:
        say(f"  training    {brought.training}")
    if brought.validation is not None:
        say(f"  validation  {brought.validation}")
    say(f"  old         {brought.old}")
    if told.get("asked"):
        say(f"  answers     {told['answered']:,} of {told['asked']:,} rows")
    if found is not None:
        counts = f"{_many(found.errors, 'error')}, {_many(found.warnings, 'warning')}"
        say(f"  rows        {found.used:,} of {found.read:,} used; {counts}")
        if found.errors or found.warnings:
            say(f"  findings    tuneport check {brought.training}")


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
