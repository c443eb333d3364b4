"""Commands that look at data: check, fix, preview, init."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuneport.errors import DataError, UsageError
from tuneport.terminal.outlet import say, say_json
from tuneport.terminal.tables import Json, working

if TYPE_CHECKING:
    from tuneport.config import RunConfig
    from tuneport.contract.backend import Backend
    from tuneport.dataset import CheckResult, DataRules, Dataset
    from tuneport.evaluate import Fit

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="A data file: JSONL, JSON, CSV, TSV, .gz of these, Parquet, .xlsx, .xls, .ods, or - for standard input.",
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "--format", metavar="FORMAT", help="jsonl, json, csv, tsv, parquet, xlsx, xls or ods; auto goes by the name."
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", metavar="NAME", help="The encoding of a text file that is not UTF-8, such as latin-1."),
]
Sheet = Annotated[
    str | None, typer.Option("--sheet", metavar="NAME", help="The sheet of a workbook; the first where none is named.")
]
Column = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="OURS=THEIRS", help="Which column holds what, such as text=body."),
]
System = Annotated[
    str | None, typer.Option("--system", metavar="TEXT", help="A system prompt for rows that have none.")
]
For = Annotated[
    str | None,
    typer.Option("--for", metavar="REF", help="Check against this base model's own rules, such as torch:smollm2-135m."),
]
Method = Annotated[
    str,
    typer.Option(
        "--method", metavar="METHOD", help="The training method whose rules apply: sft, dpo, orpo or reinforcement."
    ),
]


def opened(
    file: str,
    format: str = "auto",  # noqa: A002 - the option's name
    column: list[str] | None = None,
    system: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
) -> Dataset:
    """The dataset that a command's arguments name."""
    from tuneport.workflow import load_dataset

    return load_dataset(file, format, _pairs(column) or None, system=system, encoding=encoding, sheet=sheet)


def _pairs(column: list[str] | None) -> dict[str, str]:
    pairs = dict(one.partition("=")[::2] for one in column or ())
    if not all(pairs.values()):
        raise UsageError(
            "--column wants OURS=THEIRS.", remedy="Write for example: --column text=body --column label=queue"
        )
    return pairs


def rules_for(ref: str | None) -> DataRules | None:
    """The rules of the backend and base model that --for names."""
    if ref is None:
        return None
    from tuneport.loader import load
    from tuneport.workflow import find_ref

    parsed = find_ref(ref)
    backend = load().backend(parsed.backend)
    backend.check_base(parsed.name)
    return backend.rules(parsed.name)


def check(
    file: File,
    for_: For = None,
    method: Method = "sft",
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="FILE", help="Validation or holdout rows that must not be in FILE."),
    ] = None,
    format: Format = "auto",  # noqa: A002 - the option's name
    column: Column = None,
    system: System = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Print every finding that was kept, not the first of each code.")
    ] = False,
    json: Json = False,
) -> int:
    """Say what is wrong with a data file and what to do about it. Reads it whole; exit code 1 if an error stands."""
    from tuneport.cli import show

    _refuse_unknown(method)
    other = opened(against, format, column, system, encoding, sheet) if against else None
    with working(f"Checking {file}"):
        data = opened(file, format, column, system, encoding, sheet)
        result = data.check(rules_for(for_), method=method, against=other)
    if json:
        say_json(result.to_dict())
    else:
        show.check_result(result, everything=all_, target=for_)
    return 0 if result.ok else 1


def fix(
    file: File,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The new file; the old one is never touched.")
    ],
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="CODE", help="Apply only the remedy of this code; safe stands for the default."),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="FILE", help="Held-out rows, for the remedy of leaked-row.")
    ] = None,
    changes: Annotated[
        Path | None,
        typer.Option("--changes", metavar="FILE", help="A new file for every change, one JSON object a line."),
    ] = None,
    drop_most: Annotated[
        bool, typer.Option("--drop-most", help="Write the file although errors drop more than half of the rows.")
    ] = False,
    format: Format = "auto",  # noqa: A002 - the option's name
    column: Column = None,
    system: System = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    json: Json = False,
) -> int:
    """Write a mended copy and say what changed, row by row."""
    from tuneport.cli import show

    other = opened(against, format, column, system, encoding, sheet) if against else None
    with working(f"Mending {file}"):
        data = opened(file, format, column, system, encoding, sheet)
        result = data.fix(output, remedies=only, against=other, changes_to=changes, drop_most=drop_most)
    if json:
        say_json(result.to_dict())
    else:
        show.fix_result(result)
    return 0


def preview(
    file: File,
    for_: For = None,
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=1, help="How many rows.")] = 3,
    format: Format = "auto",  # noqa: A002 - the option's name
    column: Column = None,
    system: System = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    json: Json = False,
) -> int:
    """Show rows as the model sees them, what is trained on marked."""
    from tuneport.cli import show

    with working(f"Opening {file}"):
        data, rules = opened(file, format, column, system, encoding, sheet), rules_for(for_)
    show.previews(data, rules, rows, as_json=json)
    return 0


def init(
    file: File,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The config file to write.")] = Path(
        "tune.yaml"
    ),
    model: Annotated[str, typer.Option("--model", metavar="REF", help="The base model.")] = "torch:smollm2-135m",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
    format: Format = "auto",  # noqa: A002 - the option's name
    column: Column = None,
    system: System = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    json: Json = False,
) -> int:
    """Look at a data file and write a commented tune.yaml for it."""
    from tuneport.cli import show
    from tuneport.config import commented_yaml
    from tuneport.loader import load
    from tuneport.workflow import find_ref

    base = find_ref(model)
    model, backend = str(base), load().backend(base.backend)
    if file == "-":
        raise UsageError("A config cannot name standard input for later.", remedy="Save the rows to a file first.")
    _refuse_to_write(output, force=force)
    with working(f"Checking {file}"):
        result = opened(file, format, column, system, encoding, sheet).check()
    if not result.used:
        raise DataError(f"{file} has no row that can be used.", remedy=f"See why: tuneport check {file}")
    said = {
        "model": model,
        "data.train": file,
        "data.format": format,
        "data.encoding": encoding,
        "data.sheet": sheet,
        "data.columns": _pairs(column),
        "data.system": system,
        "train.suffix": _suffix_of(output.stem),
    }
    with working("Looking at the answers"):
        fit = _fitting(result)
    written = commented_yaml(
        _suggested(result, {**said, "compare.grader": fit.grader}, backend),
        backends={backend.name: backend.settings_class},
        notes={**_notes(result, backend), "compare.grader": f"Chosen because {fit.why}."},
        folder=output.absolute().parent,
    )
    output.write_text(written, encoding="utf-8")
    if json:
        say_json({"path": str(output), "check": result.to_dict()})
    else:
        show.check_result(result)
        say(f"Wrote {output}. Look at it, then: tuneport run {output}")
    return 0


def _refuse_unknown(method: str) -> None:
    from typing import get_args

    from tuneport.contract.capabilities import Method

    if method not in get_args(Method):
        raise UsageError(f"There is no method {method!r}.", remedy=f"Methods are {', '.join(get_args(Method))}.")


def _refuse_to_write(output: Path, *, force: bool) -> None:
    if output.exists() and not force:
        raise UsageError(
            f"{output} is there already.", remedy="Name another file with -o, or overwrite it with --force."
        )
    if not output.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {output.parent}.", remedy="Make it first, or name another file with -o.")


def _suffix_of(stem: str) -> str | None:
    """A job's name from that of its config file; None where the file has the usual name."""
    plain = re.sub("[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:40]
    return plain if plain and stem != "tune" else None


def _fitting(result: CheckResult) -> Fit:
    """The grader that suits the answers. No free answer is exactly the chosen one of a pair."""
    from tuneport.evaluate import Fit, fitting

    fit = fitting(result.dataset)
    if set(result.stats.shapes) == {"preference"} and fit.grader in ("exact", "normalised"):
        return Fit("token_f1", "long texts", "the rows are pairs of free answers")
    return fit


def _notes(result: CheckResult, backend: Backend) -> dict[str, str]:
    """What a config's comments say of these rows and of this backend."""
    from tuneport.units import many

    notes = {"data.train": f"This one has {many(result.used, 'row')}."}
    if backend.capabilities.auto_epochs:
        notes["train.epochs"] = f"With {backend.name}, auto is {backend.capabilities.auto_epochs}."
    return notes


def _suggested(result: CheckResult, said: dict[str, Any], backend: Backend) -> RunConfig:
    """A config for a file that was looked at: what was said, the method that learns from such rows, and shares
    that leave enough of them to train on.
    """
    from tuneport.config import config_from_flags

    holdout = 0.2 if result.used < 500 else 0.1
    rows: dict[str, Any] = {"data.holdout": holdout, "train.epochs": "auto" if backend.capabilities.auto_epochs else 3}
    if set(result.stats.shapes) == {"preference"}:
        # Margins grow long after they help, which only validation shows.
        validation = 0.1 if result.used >= 20 else None
        rows |= {"train.method": "dpo", "data.validation": validation}
    elif result.used >= 1000:
        rows["data.validation"] = 0.05
    return config_from_flags({**said, **rows})


COMMANDS = (check, fix, preview, init)
