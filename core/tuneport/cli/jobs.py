"""Commands for jobs: jobs, show, watch, cancel, pause, resume, settle, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tuneport.cli import complete
from tuneport.cli.options import JobRef
from tuneport.terminal.outlet import say, say_interrupted, say_json
from tuneport.terminal.tables import Json, working

if TYPE_CHECKING:
    from tuneport.contract.events import Event
    from tuneport.contract.job import Job
    from tuneport.contract.state import JobState


def jobs(
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many to list, newest first.")] = 30,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="List only jobs with this status, such as running. Can be repeated.",
            autocompletion=complete.statuses,
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend", metavar="NAME", help="List only jobs of this backend.", autocompletion=complete.backends
        ),
    ] = None,
    json: Json = False,
) -> int:
    """List the jobs started from this machine, on any backend."""
    from tuneport.cli.show_runs import show_jobs
    from tuneport.workflow import jobs as list_jobs

    with working("Looking up the jobs"):
        found = list_jobs(limit, backend=backend, status=status or None)
    if json:
        say_json({"jobs": [job.to_dict() for job in found]})
    else:
        show_jobs(found, filtered=bool(status or backend))
    return 0


def show_(ref: JobRef, json: Json = False) -> int:
    """Print one job: status, latest metrics, checkpoints and lineage."""
    from tuneport.cli.show_runs import show_job
    from tuneport.workflow import describe

    job = describe(ref)
    if json:
        say_json(job.to_dict())
    else:
        show_job(job)
    return 0


def watch(
    ref: JobRef,
    after: Annotated[
        int, typer.Option("--after", metavar="N", min=0, help="Start after the event with this number.")
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line for each event.")] = False,
) -> int:
    """Follow a job until it is over. If you stop watching, the job keeps running."""
    from tuneport.cli.show_runs import exit_code_of, show_state
    from tuneport.contract.patience import Patience
    from tuneport.workflow import look_at, open_job

    job = open_job(ref)
    patience = Patience(job)
    try:
        if json:
            for event in job.follow(after):
                say_json(event.to_dict(), indent=None)
        else:
            _follow(job, patience.ask(lambda: list(job.events(after))), after)
        state = patience.ask(lambda: look_at(job))
    except KeyboardInterrupt:
        say_interrupted(keeps_running(job.ref))
        return 130
    if not json:
        show_state(job.ref, state)
    return exit_code_of(state.status)


def cancel(ref: JobRef, json: Json = False) -> int:
    """Stop a job for good. Its checkpoints stay until you delete it."""
    return _control(ref, "cancel", as_json=json)


def pause(ref: JobRef, json: Json = False) -> int:
    """Pause a job after its current step. Continue it with resume."""
    return _control(ref, "pause", as_json=json)


def resume(ref: JobRef, json: Json = False) -> int:
    """Continue a paused or interrupted job. It starts at its last complete checkpoint."""
    return _control(ref, "resume", as_json=json)


def settle(ref: JobRef, json: Json = False) -> int:
    """Find out whether an unconfirmed job was started. Starts nothing."""
    from tuneport.workflow import settle as settle_job

    with working(f"Asking about {ref}"):
        job = settle_job(ref)
        state = job.state()
    _print_state(job, state, as_json=json)
    return 0


def report(
    ref: JobRef,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="The output file (default: a file in tuneport's home)."),
    ] = None,
    paths: Annotated[bool, typer.Option("--paths", help="Show folders, not only the names of files.")] = False,
    json: Json = False,
) -> int:
    """Write a job's HTML report, and print where it is."""
    from tuneport.workflow import report as write_report

    with working(f"Writing the report of {ref}"):
        path = write_report(ref, output, paths=paths)
    if json:
        say_json({"path": str(path)})
    else:
        say(str(path))
    return 0


def keeps_running(ref: object) -> str:
    """The line after Ctrl-C: the job keeps running, and how to follow or stop it."""
    return f"{ref} keeps running. Follow it with: tuneport watch {ref}   (stop it with: tuneport cancel {ref})"


def _follow(job: Job, past: list[Event], after: int) -> None:
    from tuneport.cli.progress import RunProgress

    with RunProgress() as progress:
        for event in past:
            progress.show_past_event(event)
        for event in [one for one in past if one.kind == "metric"][-1:]:
            progress.on_event(event)  # how far the job is
        progress.show_activity("waiting for the job")
        for event in job.follow(past[-1].seq if past else after):
            progress.on_event(event)


def _control(ref: str, verb: Literal["cancel", "pause", "resume"], *, as_json: bool) -> int:
    from tuneport.workflow import look_at, open_job

    job = open_job(ref)
    with working(f"{verb.capitalize()} {job.ref}"):
        getattr(job, verb)()
        state = look_at(job)
    _print_state(job, state, as_json=as_json)
    return 0


def _print_state(job: Job, state: JobState, *, as_json: bool) -> None:
    from tuneport.cli.show_runs import show_state

    if as_json:
        say_json({"ref": str(job.ref), "state": state.to_dict()})
    else:
        show_state(job.ref, state)


COMMANDS = (jobs, show_, watch, cancel, pause, resume, settle, report)
