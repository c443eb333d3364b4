"""`tuneport move`: list the jobs of an account, and bring one of them home."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import tuneport
import tuneport.plugin
from tuneport.errors import TuneportError, UsageError
from tuneport.plugin import say, say_json, say_lines

if TYPE_CHECKING:
    from tuneport_openai.move.asking import Questions
    from tuneport_openai.move.folder import JobFolder
    from tuneport_openai.move.old_job import OldJob
    from tuneport_openai.wire.client import Wire


def move(
    profile: Annotated[
        str,
        typer.Argument(metavar="PROFILE", help="Where the jobs are: openai, azure, or a name of tuneport profiles."),
    ],
    job: Annotated[
        str | None,
        typer.Option(
            "--job", metavar="ID", help="The job to show or, with -o, to bring home. Without it, all jobs are listed."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="The folder for the job, created if needed.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="REF", help="What to train next, such as torch:smollm2-135m or azure:gpt-4.1."),
    ] = None,
    training_file: Annotated[
        Path | None,
        typer.Option(
            "--training-file", metavar="FILE", help="Your copy of a training file that the server no longer has."
        ),
    ] = None,
    validation_file: Annotated[
        Path | None,
        typer.Option(
            "--validation-file", metavar="FILE", help="Your copy of a validation file that the server no longer has."
        ),
    ] = None,
    answers: Annotated[
        int | None,
        typer.Option("--answers", metavar="N", min=1, help="Ask the old model N rows, and keep its answers."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="The rows to ask instead of those of the validation file."),
    ] = None,
    distill: Annotated[
        bool, typer.Option("--distill", help="Make training rows from the answers; check the vendor's terms first.")
    ] = False,
    budget: Annotated[
        float | None, typer.Option("--budget", metavar="USD", min=0.0, help="The most that the answers may cost.")
    ] = None,
    price: Annotated[
        str | None,
        typer.Option("--price", metavar="IN,OUT", help="US dollars per million tokens, where the price is not known."),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens",
            metavar="N",
            min=1,
            help="The longest answer, in tokens. With a higher number, rows whose answers were cut are asked again.",
        ),
    ] = None,
    deployment: Annotated[
        str | None,
        typer.Option("--deployment", metavar="NAME", help="The name under which the old model answers at Azure."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the list of jobs as CSV.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """List the fine-tuning jobs of an account, or bring one home.

    A job comes with its data, settings, curves, and the old model's answers.

    Nothing is created, changed or deleted there. Only --answers costs money; it shows the cost and asks first.
    """
    from tuneport_openai.move.download import LARGEST
    from tuneport_openai.wire import profiles
    from tuneport_openai.wire.client import Wire

    wire = Wire(profiles.require_address(profiles.profile(profile)), largest_file=LARGEST)
    given = (model, training_file, validation_file, answers, data, budget, price, max_tokens, deployment)
    if job is None:
        if distill or output is not None or any(one is not None for one in given):
            raise UsageError("These options are for one job.", remedy=f"Name it: tuneport move {profile} --job ID")
        return _list(wire, csv=csv, json=json)
    if csv:
        raise UsageError("--csv prints the list of jobs.", remedy="Leave out --job, or use --json.")
    if output is None:
        if distill or any(one is not None for one in given):
            raise UsageError("The folder for the job is missing.", remedy="Name a folder: -o FOLDER")
        return _show(wire, job, json=json)
    if answers is None and (distill or data or budget is not None or price or max_tokens or deployment):
        raise UsageError(
            "--data, --distill, --budget, --price, --max-tokens and --deployment need --answers.",
            remedy="Add --answers N",
        )
    questions = None
    if answers is not None:
        from tuneport_openai.move.asking import Questions

        questions = Questions(
            count=answers,
            data=data,
            distill=distill,
            budget=budget,
            price=price,
            max_tokens=max_tokens,
            deployment=deployment,
            yes=yes,
        )
    copies = {"training_file": training_file, "validation_file": validation_file}
    _bring_home(wire, job, tuneport.plugin.local_path(output).absolute(), copies, questions, model, json=json)
    return 0


def add_to(app: Any) -> None:
    """Add the command to the application."""
    app.command("move")(move)


def _list(wire: Wire, *, csv: bool, json: bool) -> int:
    from tuneport_openai.move.account import read_account
    from tuneport_openai.move.table import csv_text, endings, print_account
    from tuneport_openai.wire import closing

    with tuneport.plugin.working(f"Reading the jobs of {wire.profile.name}") as on_progress:
        account = read_account(wire, on_progress=on_progress)
    if json:
        say_json(
            {
                "profile": account.profile,
                "address": account.address,
                "jobs": [one.to_dict() for one in account.jobs],
                "ends": endings(account, wire.profile),
                "closing": closing.announcement(wire.profile) or None,
                "notes": list(account.notes),
            }
        )
    elif csv:
        say_lines(csv_text(account).removesuffix("\n"))
    else:
        print_account(account, wire.profile)
    return 0


def _show(wire: Wire, job_id: str, *, json: bool) -> int:
    """Print one job, which stays where it is."""
    from tuneport_openai.move.table import bring_home, print_job

    notes: list[str] = []
    job = _find_job(wire, job_id, notes)
    if json:
        say_json({"profile": wire.profile.name, "address": wire.profile.base_url, "job": job.to_dict(), "notes": notes})
        return 0
    print_job(job)
    for note in notes:
        say(("note:", "bold"), f" {note}")
    say(bring_home(wire.profile.name, job))
    return 0


def _find_job(wire: Wire, job_id: str, notes: list[str]) -> OldJob:
    from tuneport_openai.move.account import read_job

    if not job_id.strip():
        raise UsageError("--job is empty.", remedy=f"List the jobs: tuneport move {wire.profile.name}")
    with tuneport.plugin.working(f"Asking {wire.profile.name} for {job_id}"):
        return read_job(wire, job_id, notes)


def _bring_home(
    wire: Wire,
    job_id: str,
    folder: Path,
    copies: dict[str, Path | None],
    questions: Questions | None,
    model: str | None,
    *,
    json: bool,
) -> None:
    """Bring the job into the folder, ask the old model, and write the config: also where asking has failed."""
    from tuneport_openai.move.asking import ask_old_model
    from tuneport_openai.move.bring import bring
    from tuneport_openai.move.folder import hold_folder
    from tuneport_openai.move.showing import Bars

    notes: list[str] = []
    job = _find_job(wire, job_id, notes)
    with hold_folder(folder):
        with Bars() as bars:
            local = bring(wire, job, folder, **copies, on_progress=bars.show)
        local = replace(local, notes=(*notes, *local.notes))
        answered: dict[str, Any] = {}
        failed: TuneportError | None = None
        if questions is not None:
            try:
                answered = ask_old_model(wire, local, questions)
            except TuneportError as error:  # the config is written anyway
                failed = error
        _finish(wire, local, model, answered, json=json, quiet=failed is not None)
    if failed is not None:
        raise failed


def _finish(
    wire: Wire, local: JobFolder, model: str | None, answered: dict[str, Any], *, json: bool, quiet: bool
) -> None:
    """Check the rows, write the config and, unless `quiet`, print what is here."""
    from tuneport_openai.move.bases import proposals
    from tuneport_openai.move.bring import check_rows, write_lineage
    from tuneport_openai.move.config import parts_of, write_config
    from tuneport_openai.move.showing import print_folder

    parts = parts_of(local)
    with tuneport.plugin.working("Checking the rows"):
        found = check_rows(local, [one for one in (parts.validation, parts.holdout) if one is not None])
        write_lineage(local, wire.profile.name, found.fingerprint if found is not None else "")
        rows = None if parts.training is None else tuneport.Dataset.load(parts.training)
        proposed = [] if model or quiet else proposals(rows, local.job.method)
        config, notes = write_config(local, parts, model, proposed, profile=wire.profile.name)
    notes = [*local.notes, *notes]
    shared = found.counts.get("leaked-row", 0) if found is not None else 0
    if shared:
        notes.append(
            f"{shared:,} training rows are also among the validation or held-out rows, so a comparison makes both "
            "models look better than they are."
        )
    if quiet:
        return
    if json:
        say_json(
            {
                "folder": str(local.folder),
                "job": local.job.to_dict(),
                "gone": list(local.gone),
                "notes": notes,
                "check": found.to_dict() if found is not None else None,
                "answers": answered or None,
                "config": str(config),
                "bases": [one.to_dict() for one in proposed],
            }
        )
        return
    print_folder(local, found, answered, notes, config, proposed)
