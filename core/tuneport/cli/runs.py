"""Commands that train and watch: plan, run, jobs, show, watch, cancel, pause, resume, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuneport.errors import UsageError

if TYPE_CHECKING:
    from tuneport.config import RunConfig

Source = Annotated[str, typer.Argument(help="A config file (YAML, TOML, JSON), or a data file together with --model.")]
JobRef = Annotated[
    str, typer.Argument(metavar="REF", help="The job, such as torch:tickets-ab12; `tuneport jobs` lists them.")
]
ModelOption = Annotated[str | None, typer.Option("--model", metavar="REF", help="The base model.")]
Epochs = Annotated[str | None, typer.Option("--epochs", help="How often each row is seen, or auto.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Fixes the split, the order and the draws.")]
Holdout = Annotated[float | None, typer.Option("--holdout", help="The share of rows kept for the comparison.")]
Validation = Annotated[float | None, typer.Option("--validation", help="The share of rows that steer training.")]
Suffix = Annotated[str | None, typer.Option("--suffix", help="The beginning of the model's name.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key of the config.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def plan(
    source: Source,
    model: ModelOption = None,
    epochs: Epochs = None,
    seed: Seed = None,
    holdout: Holdout = None,
    validation: Validation = None,
    set_: Set = None,
    json: Json = False,
) -> int:
    """Say what a run would do and cost - rows, tokens, steps, time, memory, money - and start nothing."""
    from tuneport.cli import show
    from tuneport.workflow import plan_run

    config = configured(source, model, epochs, seed, holdout, validation, None, set_)
    with show.working(f"Planning {source}"):
        foretold, split = plan_run(config)
    if json:
        show.print_json({**foretold.to_dict(), "split": split.counts()})
    else:
        show.split(split)
        show.plan(foretold)
    return 0


def run(
    source: Source,
    model: ModelOption = None,
    epochs: Epochs = None,
    seed: Seed = None,
    holdout: Holdout = None,
    validation: Validation = None,
    suffix: Suffix = None,
    set_: Set = None,
    again: Annotated[bool, typer.Option("--again", help="Start anew what has run already.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait for the end; --no-wait returns once the job is submitted.")] = True,
    json: Json = False,
) -> int:
    """Check, split, plan, train, compare, report. The same command finishes what is left of an earlier one."""
    from tuneport.cli import show
    from tuneport.cli.progress import RunProgress
    from tuneport.workflow import run as carry

    config = configured(source, model, epochs, seed, holdout, validation, suffix, set_)
    with RunProgress() as progress:
        try:
            result = carry(config, again=again, wait=wait, on=progress)
        except KeyboardInterrupt:
            progress.close()
            typer.echo(_goes_on(progress.ref, "The same command finishes what is left."), err=True)
            return 130
    if json:
        show.print_json(result.to_dict())
    else:
        show.run_result(result)
    return 0


def jobs(
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 30,
    json: Json = False,
) -> int:
    """List what was started from this machine, on any backend."""
    from tuneport.cli import show
    from tuneport.workflow import jobs as known

    found = known(limit)
    if json:
        show.print_json({"jobs": [job.to_dict() for job in found]})
    else:
        show.jobs(found)
    return 0


def show_(ref: JobRef, json: Json = False) -> int:
    """Show one job: where it stands, its last figures, its checkpoints and its lineage."""
    from tuneport.cli import show
    from tuneport.workflow import open_job

    job = open_job(ref)
    if json:
        show.print_json(show.job_facts(job))
    else:
        show.job(job)
    return 0


def watch(
    ref: JobRef,
    after: Annotated[int, typer.Option("--after", help="Begin after this event's number.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line for each event.")] = False,
) -> int:
    """Follow a job until it is over; stopping to watch does not stop the job."""
    from tuneport.cli import show
    from tuneport.cli.progress import RunProgress
    from tuneport.workflow import open_job

    job = open_job(ref)
    try:
        if json:
            for event in job.follow(after):
                show.print_json_line(event.to_dict())
        else:
            with RunProgress() as progress:
                progress.attach(job)
                for event in job.follow(after):
                    progress("event", event)
        state = job.state()
    except KeyboardInterrupt:
        typer.echo(_goes_on(ref, ""), err=True)
        return 130
    if not json:
        show.state(job.ref, state)
    return show.exit_code(state.status)


def cancel(ref: JobRef) -> int:
    """End a job for good. What it has learnt so far stays in its checkpoints until it is deleted."""
    return _act(ref, "cancel")


def pause(ref: JobRef) -> int:
    """Stop a job after the step at hand, to go on later."""
    return _act(ref, "pause")


def resume(ref: JobRef) -> int:
    """Go on with a paused or interrupted job from its last whole checkpoint."""
    return _act(ref, "resume")


def report(
    ref: JobRef,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write it; else into tuneport's home.")
    ] = None,
) -> int:
    """Write a job's HTML page and print where it is."""
    from tuneport.workflow import report as write

    typer.echo(write(ref, output))
    return 0


def configured(
    source: str,
    model: str | None,
    epochs: str | None,
    seed: int | None,
    holdout: float | None,
    validation: float | None,
    suffix: str | None,
    overrides: list[str] | None,
) -> RunConfig:
    """The config that a command's arguments say: a file's, with the flags on top, or one made of the flags alone."""
    from tuneport.config import config_from_flags, load_config

    flags: dict[str, Any] = {
        "model": model,
        "train.epochs": int(epochs) if epochs and epochs.isdigit() else epochs,
        "train.seed": seed,
        "train.suffix": suffix,
        "data.holdout": holdout,
        "data.validation": validation,
    }
    if _is_config(source):
        said = [f"{key}={value}" for key, value in flags.items() if value is not None]
        return load_config(source, [*said, *(overrides or ())])
    if model is None:
        raise UsageError(
            f"{source} is data, so the base model must be named.",
            remedy=f"Write: tuneport run {source} --model torch:smollm2-135m. Or first: tuneport init {source}",
        )
    if holdout is None:
        flags["data.holdout"] = 0.1
    return config_from_flags({**flags, "data.train": source}, overrides or ())


def _is_config(source: str) -> bool:
    """Whether a file is a config, not data: YAML and TOML always, JSON when it is an object that names a model."""
    path = Path(source)
    if path.suffix.lower() != ".json":
        return path.suffix.lower() in (".yaml", ".yml", ".toml")
    import json

    with path.open("rb") as file:
        head = file.read(2**20)
    try:
        found = json.loads(head)
    except ValueError:
        return False  # a config is no megabyte long, so this is data, or neither
    return isinstance(found, dict) and isinstance(found.get("model"), str)


def _act(ref: str, verb: str) -> int:
    from tuneport.cli import show
    from tuneport.workflow import open_job

    job = open_job(ref)
    getattr(job, verb)()
    show.state(job.ref, job.state())
    return 0


def _goes_on(ref: object, more: str) -> str:
    if ref is None:
        return "Stopped. Nothing was started."
    return (
        f"\n{ref} goes on. Come back with: tuneport watch {ref}   (end it with: tuneport cancel {ref})\n{more}".rstrip()
    )


COMMANDS = (plan, run, jobs, show_, watch, cancel, pause, resume, report)
