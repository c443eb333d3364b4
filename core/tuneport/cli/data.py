"""Commands that look at data: check, fix, preview, init."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuneport.errors import UsageError
from tuneport.refs import Ref

if TYPE_CHECKING:
    from tuneport.dataset import DataProfile, Dataset

File = Annotated[
    str, typer.Argument(help="A data file: JSONL, JSON, CSV, TSV, Parquet, .gz of these, or - for standard input.")
]
Format = Annotated[str, typer.Option("--format", help="The shape of the rows, when it is not recognised.")]
Column = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="OURS=THEIRS", help="Which column holds what, such as text=body."),
]
System = Annotated[str | None, typer.Option("--system", help="A system prompt for rows that have none.")]
For = Annotated[
    str | None,
    typer.Option("--for", metavar="REF", help="Check against this base model's own rules, such as torch:smollm2-135m."),
]
Method = Annotated[str, typer.Option("--method", help="The training method whose rules apply.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def opened(file: str, format: str = "auto", column: list[str] | None = None, system: str | None = None) -> Dataset:  # noqa: A002 - the option's name
    """The dataset that a command's arguments name."""
    from tuneport.dataset import Dataset

    pairs = dict(one.partition("=")[::2] for one in column or ())
    if not all(pairs.values()):
        raise UsageError(
            "--column wants OURS=THEIRS.", remedy="Write for example: --column text=body --column label=queue"
        )
    return Dataset.load(file, format, pairs or None, system=system)


def profile_for(ref: str | None) -> DataProfile | None:
    """The rules of the backend and base model that --for names."""
    if ref is None:
        return None
    from tuneport.plugins import load

    parsed = Ref.parse(ref)
    backend = load().backend(parsed.backend)
    backend.check_base(parsed.name)
    return backend.profile(parsed.name)


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
    all_: Annotated[
        bool, typer.Option("--all", help="Print every finding that was kept, not the first of each code.")
    ] = False,
    json: Json = False,
) -> int:
    """Read a data file whole and say what is wrong with it and what to do. Exit code 1 if an error stands."""
    from tuneport.cli import show

    other = opened(against, format, column, system) if against else None
    with show.working(f"Checking {file}"):
        result = opened(file, format, column, system).check(profile_for(for_), method=method, against=other)
    if json:
        show.print_json(result.to_dict())
    else:
        show.check_result(result, everything=all_, target=for_)
    return 0 if result.ok else 1


def fix(
    file: File,
    output: Annotated[Path, typer.Option("-o", "--output", help="The new file; the old one is never touched.")],
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="CODE", help="Apply only the remedy of this code.")
    ] = None,
    format: Format = "auto",  # noqa: A002 - the option's name
    column: Column = None,
    system: System = None,
    json: Json = False,
) -> int:
    """Write a mended copy and say what changed, row by row."""
    from tuneport.cli import show

    with show.working(f"Mending {file}"):
        result = opened(file, format, column, system).fix(output, remedies=only)
    if json:
        show.print_json(result.to_dict())
    else:
        show.fix_result(result)
    return 0


def preview(
    file: File,
    for_: For = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many rows.")] = 3,
    format: Format = "auto",  # noqa: A002 - the option's name
    column: Column = None,
    system: System = None,
    json: Json = False,
) -> int:
    """Show what a few rows look like to the model and what of them is trained on."""
    from tuneport.cli import show

    show.previews(opened(file, format, column, system), profile_for(for_), rows, as_json=json)
    return 0


def init(
    file: File,
    output: Annotated[Path, typer.Option("-o", "--output", help="The config file to write.")] = Path("tune.yaml"),
    model: Annotated[str, typer.Option("--model", help="The base model.")] = "torch:smollm2-135m",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
) -> int:
    """Look at a data file and write a commented tune.yaml for it."""
    from tuneport.cli import show
    from tuneport.config import commented_yaml
    from tuneport.plugins import load

    backend = load().backend(Ref.parse(model).backend)
    if output.exists() and not force:
        raise UsageError(
            f"{output} is there already.", remedy="Name another file with -o, or overwrite it with --force."
        )
    data = opened(file)
    result = data.check()
    written = commented_yaml(
        show.suggested_config(file, output, model, result),
        backends={backend.name: backend.config_class},
        notes={"data.train": f"This one has {result.used:,} rows."},
        folder=output.absolute().parent,
    )
    output.write_text(written, encoding="utf-8")
    show.check_result(result)
    typer.echo(f"Wrote {output}. Look at it, then: tuneport run {output}")
    return 0


COMMANDS = (check, fix, preview, init)
