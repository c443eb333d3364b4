"""Commands that plan and run a config: plan, run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tuneport.cli import complete
from tuneport.terminal.outlet import say_interrupted, say_json
from tuneport.terminal.tables import Json, working

if TYPE_CHECKING:
    from tuneport.cli.progress import RunProgress

Source = Annotated[
    str,
    typer.Argument(metavar="FILE", help="A config file (YAML, TOML, JSON), or a data file together with --model."),
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
Epochs = Annotated[
    str | None, typer.Option("--epochs", metavar="N", help="How many times training sees each row, or auto.")
]
LearningRate = Annotated[
    str | None,
    typer.Option(
        "--learning-rate",
        metavar="RATE",
        help="The learning rate, or auto; for backends that take an absolute rate.",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="The seed of the split and of all other randomness."),
]
Holdout = Annotated[
    str | None,
    typer.Option("--holdout", metavar="SHARE", help="Rows held out for the comparison: a share like 0.1, or a file."),
]
Validation = Annotated[
    str | None,
    typer.Option(
        "--validation",
        metavar="SHARE",
        help="Rows for early stopping and the best checkpoint: a share like 0.05, or a file.",
    ),
]
Suffix = Annotated[str | None, typer.Option("--suffix", metavar="TEXT", help="The start of the model's name.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one key of the config. Can be repeated.",
        autocompletion=complete.config_keys,
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
    """Print what a run would do and cost, and start nothing. Each number comes with its source and error."""
    from tuneport.cli.configuring import Options, read_config
    from tuneport.cli.show_runs import show_plan, show_split
    from tuneport.workflow import plan_run, refuse_over_budget

    options = Options(model, method, epochs, learning_rate, seed, holdout, validation)
    config = read_config("plan", source, options, set_)
    with working(f"Planning {source}"):
        estimate, split = plan_run(config)
    if json:
        say_json({**estimate.to_dict(), "split": split.counts()})
    else:
        show_split(split)
        show_plan(estimate)
    refuse_over_budget(estimate, config)
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
    again: Annotated[
        bool, typer.Option("--again", help="Start a new job even if the same one has finished already.")
    ] = False,
    wait: Annotated[
        bool, typer.Option(help="Wait until the run has finished; --no-wait returns once the job is submitted.")
    ] = True,
    json: Json = False,
) -> int:
    """Check, split, plan, train, compare, report. The same command continues where an earlier one stopped."""
    from tuneport.cli.configuring import Options, read_config
    from tuneport.cli.progress import RunProgress
    from tuneport.cli.show_runs import show_run
    from tuneport.workflow import run as run_config

    options = Options(model, method, epochs, learning_rate, seed, holdout, validation, suffix)
    config = read_config("run", source, options, set_)
    with RunProgress(waits=wait) as progress:
        progress.show_activity("checking the rows")
        try:
            result = run_config(config, again=again, wait=wait, on=progress)
        except KeyboardInterrupt:
            progress.close()
            say_interrupted(*_interruption_lines(progress, again=again))
            return 130
    if json:
        say_json(result.to_dict())
    else:
        show_run(result)
    return 0


def _interruption_lines(progress: RunProgress, *, again: bool) -> tuple[str, ...]:
    """What an interrupted run leaves, and how to continue it."""
    from tuneport.cli.jobs import keeps_running

    same = "The same command without --again" if again else "The same command"
    if progress.ref is None:
        if not progress.planned:
            return (f"Nothing was submitted yet. {same} starts over.",)
        return ("A job may have been submitted: `tuneport jobs` lists it.", f"{same} continues from there.")
    if progress.trained:
        return (f"{progress.ref} is trained. {same} finishes the rest.",)
    return keeps_running(progress.ref), f"{same} finishes the rest."


COMMANDS = (plan, run)
