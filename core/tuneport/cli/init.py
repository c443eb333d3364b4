"""The command that writes a config for a data file: init."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuneport.cli.options import Column, Encoding, File, Format, Sheet, System, open_dataset, parse_columns
from tuneport.errors import DataError, UsageError
from tuneport.terminal.outlet import say, say_json
from tuneport.terminal.tables import Json, working

if TYPE_CHECKING:
    from tuneport.config import RunConfig
    from tuneport.contract.backend import Backend
    from tuneport.dataset import CheckResult
    from tuneport.evaluate import Fit


def init(
    file: File,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The config file to write.")] = Path(
        "tune.yaml"
    ),
    model: Annotated[str, typer.Option("--model", metavar="REF", help="The base model.")] = "torch:smollm2-135m",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    format: Format = "auto",  # noqa: A002 - the option's name
    column: Column = None,
    system: System = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    json: Json = False,
) -> int:
    """Check a data file, and write a commented tune.yaml for it."""
    from tuneport.cli.show_data import show_check
    from tuneport.config import commented_yaml
    from tuneport.workflow import find_ref, open_backend

    base = find_ref(model)
    model, backend = str(base), open_backend(base.backend)
    if file == "-":
        raise UsageError("A config cannot refer to standard input.", remedy="Save the rows to a file first.")
    _refuse_to_write(output, force=force)
    with working(f"Checking {file}"):
        result = open_dataset(file, format, column, system, encoding, sheet).check()
    if not result.used:
        raise DataError(f"{file} has no usable rows.", remedy=f"To see why: tuneport check {file}")
    given = {
        "model": model,
        "data.train": file,
        "data.format": format,
        "data.encoding": encoding,
        "data.sheet": sheet,
        "data.columns": parse_columns(column),
        "data.system": system,
        "train.suffix": _suffix_of(output.stem),
    }
    with working("Reading the answers"):
        fit = _fit_of(result)
    text = commented_yaml(
        _suggest(result, {**given, "compare.grader": fit.grader}, backend),
        backends={backend.name: backend.settings_class},
        notes={**_notes(result, backend), "compare.grader": f"Chosen because {fit.why}."},
        folder=output.absolute().parent,
    )
    output.write_text(text, encoding="utf-8")
    if json:
        say_json({"path": str(output), "check": result.to_dict()})
    else:
        show_check(result)
        say(f"Wrote {output}. Review it, then: tuneport run {output}")
    return 0


def _refuse_to_write(output: Path, *, force: bool) -> None:
    if output.exists() and not force:
        raise UsageError(
            f"{output} already exists.", remedy="Choose another file with -o, or overwrite it with --force."
        )
    if not output.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {output.parent}.", remedy="Create it, or choose another file with -o.")


def _suffix_of(stem: str) -> str | None:
    """A suffix for job names, from the name of the config file; None for the default file name."""
    plain = re.sub("[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:40]
    return plain if plain and stem != "tune" else None


def _fit_of(result: CheckResult) -> Fit:
    """The grader that fits the answers. For preference pairs, no answer will match the chosen one exactly."""
    from tuneport.evaluate import Fit, fit_grader

    fit = fit_grader(result.dataset)
    if set(result.stats.shapes) == {"preference"} and fit.grader in ("exact", "normalized"):
        return Fit("token_f1", "long texts", "the rows are pairs of free-form answers")
    return fit


def _notes(result: CheckResult, backend: Backend) -> dict[str, str]:
    """Comments for the config about these rows and this backend."""
    from tuneport.units import many

    notes = {"data.train": f"This file has {many(result.used, 'row')}."}
    if backend.capabilities.auto_epochs:
        notes["train.epochs"] = f"With {backend.name}, auto is {backend.capabilities.auto_epochs}."
    return notes


def _suggest(result: CheckResult, given: dict[str, Any], backend: Backend) -> RunConfig:
    """A config for a checked file: what was given, a method that can train on such rows, and shares that leave enough
    rows to train on.
    """
    from tuneport.config import config_from_flags

    holdout = 0.2 if result.used < 500 else 0.1
    rows: dict[str, Any] = {"data.holdout": holdout, "train.epochs": "auto" if backend.capabilities.auto_epochs else 3}
    if set(result.stats.shapes) == {"preference"}:
        # Margins keep growing after they stop helping, and only validation shows it.
        validation = 0.1 if result.used >= 20 else None
        rows |= {"train.method": "dpo", "data.validation": validation}
    elif result.used >= 1000:
        rows["data.validation"] = 0.05
    return config_from_flags({**given, **rows})


COMMANDS = (init,)
