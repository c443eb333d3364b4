"""Commands that train and watch: plan, run, jobs, show, watch, cancel, pause, resume, settle, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuneport.cli import complete
from tuneport.errors import RefError, UsageError
from tuneport.terminal.outlet import say, say_interrupted, say_json
from tuneport.terminal.tables import Json, working

if TYPE_CHECKING:
    from tuneport.cli.progress import RunProgress
    from tuneport.config import RunConfig

Source = Annotated[
    str,
    typer.Argument(metavar="FILE", help="A config file (YAML, TOML, JSON), or a data file together with --model."),
]
JobRef = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="The job: a reference, its name or the beginning of that, or last.",
        autocompletion=complete.jobs,
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="REF", help="The base model.", autocompletion=complete.models)
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help="The training method: sft, dpo, orpo or reinforcement.",
        autocompletion=complete.methods,
    ),
]
Epochs = Annotated[str | None, typer.Option("--epochs", metavar="N", help="How often each row is seen, or auto.")]
LearningRate = Annotated[
    str | None,
    typer.Option(
        "--learning-rate", metavar="RATE", help="The learning rate, or auto; for backends that take an absolute one."
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Fixes the split, the order and the draws.")]
Holdout = Annotated[
    str | None,
    typer.Option("--holdout", metavar="SHARE", help="The share of rows kept for the comparison, or a file of them."),
]
Validation = Annotated[
    str | None,
    typer.Option("--validation", metavar="SHARE", help="The share of rows that steer training, or a file of them."),
]
Suffix = Annotated[str | None, typer.Option("--suffix", metavar="TEXT", help="The beginning of the model's name.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override one key of the config.", autocompletion=complete.config_keys
    ),
]


def plan(
    source: Source,
    model: ModelOption = None,
    method: MethodOption = None,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    holdout: Holdout = None,
    validation: Validation = None,
    set_: Set = None,
    json: Json = False,
) -> int:
    """Say what a run would do and cost, and start nothing. Each number comes with its source and error."""
    from tuneport.cli import show
    from tuneport.workflow import plan_run, refuse_over_budget

    config = configured("plan", source, model, method, epochs, seed, holdout, validation, None, set_, learning_rate)
    with working(f"Planning {source}"):
        foretold, split = plan_run(config)
    if json:
        say_json({**foretold.to_dict(), "split": split.counts()})
    else:
        show.split(split)
        show.plan(foretold)
    refuse_over_budget(foretold, config)
    return 0


def run(
    source: Source,
    model: ModelOption = None,
    method: MethodOption = None,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
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

    config = configured("run", source, model, method, epochs, seed, holdout, validation, suffix, set_, learning_rate)
    with RunProgress(waits=wait) as progress:
        progress.at("checking the rows")
        try:
            result = carry(config, again=again, wait=wait, on=progress)
        except KeyboardInterrupt:
            progress.close()
            say_interrupted(*_left_behind(progress, again=again))
            return 130
    if json:
        say_json(result.to_dict())
    else:
        show.run_result(result)
    return 0


def jobs(
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="The newest so many.")] = 30,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="Only jobs that stand so now, such as running; may be repeated.",
            autocompletion=complete.statuses,
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option("--backend", metavar="NAME", help="Only jobs of this backend.", autocompletion=complete.backends),
    ] = None,
    json: Json = False,
) -> int:
    """List what was started from this machine, on any backend."""
    from tuneport.cli import show
    from tuneport.workflow import jobs as known

    with working("Asking how the jobs stand"):
        found = known(limit, backend=backend, status=status or None)
    if json:
        say_json({"jobs": [job.to_dict() for job in found]})
    else:
        show.jobs(found, filtered=bool(status or backend))
    return 0


def show_(ref: JobRef, json: Json = False) -> int:
    """Show one job: status, last figures, checkpoints and lineage."""
    from tuneport.cli import show
    from tuneport.workflow import open_job

    job = open_job(ref)
    if json:
        say_json(show.job_facts(job))
    else:
        show.job(job)
    return 0


def watch(
    ref: JobRef,
    after: Annotated[int, typer.Option("--after", metavar="N", min=0, help="Begin after this event's number.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line for each event.")] = False,
) -> int:
    """Follow a job until it is over. Stopping to watch does not stop the job."""
    from tuneport.cli import show
    from tuneport.cli.progress import RunProgress
    from tuneport.contract.patience import Patience
    from tuneport.workflow import look_at, open_job

    job = open_job(ref)
    patience = Patience(job)
    try:
        if json:
            for event in job.follow(after):
                say_json(event.to_dict(), indent=None)
        else:
            past = list(patience.ask(lambda: job.events(after)))
            with RunProgress() as progress:
                for event in past:
                    progress("past", event)
                for event in [one for one in past if one.kind == "metric"][-1:]:
                    progress("event", event)  # where it stands
                progress.at("waiting for the job")
                for event in job.follow(past[-1].seq if past else after):
                    progress("event", event)
        state = patience.ask(lambda: look_at(job))
    except KeyboardInterrupt:
        say_interrupted(_goes_on(job.ref))
        return 130
    if not json:
        show.state(job.ref, state)
    return show.exit_code(state.status)


def cancel(ref: JobRef, json: Json = False) -> int:
    """End a job for good. What it has learnt so far stays in its checkpoints until it is deleted."""
    return _act(ref, "cancel", as_json=json)


def pause(ref: JobRef, json: Json = False) -> int:
    """Stop a job after the step at hand, to go on later."""
    return _act(ref, "pause", as_json=json)


def resume(ref: JobRef, json: Json = False) -> int:
    """Go on with a paused or interrupted job. It begins at its last whole checkpoint."""
    return _act(ref, "resume", as_json=json)


def settle(ref: JobRef, json: Json = False) -> int:
    """Learn what became of a start that nobody could confirm. Starts nothing."""
    from tuneport.cli import show
    from tuneport.workflow import settle as learn

    with working(f"Asking about {ref}"):
        job = learn(ref)
        state = job.state()
    if json:
        say_json({"ref": str(job.ref), "state": state.to_dict()})
    else:
        show.state(job.ref, state)
    return 0


def report(
    ref: JobRef,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write it; else into home.")
    ] = None,
    paths: Annotated[bool, typer.Option("--paths", help="Show folders too; else the page names files alone.")] = False,
    json: Json = False,
) -> int:
    """Write a job's HTML page and print where it is."""
    from tuneport.workflow import report as write

    with working(f"Writing the report of {ref}"):
        path = write(ref, output, paths=paths)
    if json:
        say_json({"path": str(path)})
    else:
        say(str(path))
    return 0


def configured(
    command: str,
    source: str,
    model: str | None,
    method: str | None,
    epochs: str | None,
    seed: int | None,
    holdout: str | None,
    validation: str | None,
    suffix: str | None,
    overrides: list[str] | None,
    learning_rate: str | None = None,
) -> RunConfig:
    """The config that a command's arguments say: a file's, with the flags on top, or one made of the flags alone."""
    from tuneport.config import Flag, config_from_flags, load_config
    from tuneport.dataset.read.source import missing_file
    from tuneport.homefolder import local_path
    from tuneport.workflow.naming import with_base

    model = None if model is None else _model_of(model)
    flags: dict[str, Any] = {
        "model": Flag("--model", model),
        "train.method": Flag("--method", method),
        "train.epochs": Flag("--epochs", epochs),
        "train.seed": Flag("--seed", seed),
        "train.suffix": Flag("--suffix", suffix),
        "data.holdout": Flag("--holdout", holdout),
        "data.validation": Flag("--validation", validation),
    }
    is_config = _is_config(source)
    if not is_config and model is None:
        if source != "-" and not local_path(source).exists():
            raise missing_file(source)
        raise UsageError(
            f"{source} is data, so the base model must be named.",
            remedy=f"Write: tuneport {command} {source} --model torch:smollm2-135m. Or first: tuneport init {source}",
        )
    if not is_config:
        flags |= {"data.train": source, "data.holdout": 0.1 if holdout is None else flags["data.holdout"]}

    def read() -> RunConfig:
        if is_config:
            return with_base(load_config(source, overrides or (), flags))
        return with_base(config_from_flags(flags, overrides or ()))

    if learning_rate is not None:
        flags[_rate_key(read().ref.backend)] = Flag("--learning-rate", parse_number(learning_rate))
    return read()


def _model_of(text: str) -> str:
    from tuneport.workflow import find_ref

    try:
        return str(find_ref(text))
    except RefError as error:
        raise RefError(f"--model: {error.message}", remedy=error.remedy) from error


def _rate_key(backend: str) -> str:
    """The key of a backend's learning rate. Raises UsageError where it takes none, or a factor on its own choice."""
    from tuneport.workflow import open_backend

    fields = open_backend(backend).settings_class.model_fields
    if "learning_rate" in fields:
        return f"backends.{backend}.learning_rate"
    cure = "Leave --learning-rate out."
    if "learning_rate_multiplier" in fields:
        cure = f"Scale the rate that the server chooses: --set backends.{backend}.learning_rate_multiplier=2"
    raise UsageError(f"The backend {backend!r} takes no learning rate.", remedy=cure)


def parse_number(text: str) -> float | str:
    """The number that an option was given, or its text where it is none, which the config's own check then names."""
    try:
        return float(text)
    except ValueError:
        return text


def _is_config(source: str) -> bool:
    """Whether a file is a config, not data: YAML and TOML always, JSON when it is an object that names a model."""
    path = Path(source)
    if path.suffix.lower() != ".json":
        return path.suffix.lower() in (".yaml", ".yml", ".toml")
    import json

    from tuneport.files import open_regular

    try:
        with open_regular(path) as file:
            found = json.loads(file.read(2**20))
    except OSError as error:
        raise UsageError(
            f"{source} cannot be read: {error.strerror}.", remedy="Check the name and the rights."
        ) from error
    except (ValueError, RecursionError):
        return False  # a config is no megabyte long and not nested that deep, so this is data, or neither
    return isinstance(found, dict) and isinstance(found.get("model"), str)


def _act(ref: str, verb: str, *, as_json: bool) -> int:
    from tuneport.cli import show
    from tuneport.workflow import look_at, open_job

    job = open_job(ref)
    with working(f"{verb.capitalize()} {job.ref}"):
        getattr(job, verb)()
        state = look_at(job)
    if as_json:
        say_json({"ref": str(job.ref), "state": state.to_dict()})
    else:
        show.state(job.ref, state)
    return 0


def _left_behind(progress: RunProgress, *, again: bool) -> tuple[str, ...]:
    """What a run leaves when it is interrupted, and how to come back."""
    same = "The same command without --again" if again else "The same command"
    if progress.ref is None:
        return (f"Stopped before the job was known to be submitted. {same} goes on from there.",)
    if progress.trained:
        return (f"{progress.ref} is trained. {same} finishes what is left.",)
    return _goes_on(progress.ref), f"{same} finishes what is left."


def _goes_on(ref: object) -> str:
    return f"{ref} goes on. Come back with: tuneport watch {ref}   (end it with: tuneport cancel {ref})"


COMMANDS = (plan, run, jobs, show_, watch, cancel, pause, resume, settle, report)
