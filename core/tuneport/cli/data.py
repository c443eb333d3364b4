"""Commands for data files: check, fix, preview."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuneport.cli.options import Column, Encoding, File, Format, Sheet, System, open_dataset
from tuneport.errors import UsageError
from tuneport.terminal.outlet import say_json
from tuneport.terminal.tables import Json, working

if TYPE_CHECKING:
    from tuneport.dataset import DataRules

For = Annotated[
    str | None,
    typer.Option(
        "--for", metavar="REF", help="Check against the rules of this base model, such as torch:smollm2-135m."
    ),
]
Method = Annotated[
    str,
    typer.Option(
        "--method", metavar="METHOD", help="The training method whose rules apply: sft, dpo, orpo or reinforcement."
    ),
]


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
        bool, typer.Option("--all", help="Print every finding that was kept, not only the first of each code.")
    ] = False,
    json: Json = False,
) -> int:
    """Check a data file, and print each problem with its fix. Reads the complete file. Exit code 1 if there is an
    error.
    """
    from tuneport.cli.show_data import show_check

    _refuse_unknown(method)
    other = open_dataset(against, format, column, system, encoding, sheet) if against else None
    with working(f"Checking {file}"):
        data = open_dataset(file, format, column, system, encoding, sheet)
        result = data.check(_rules_for(for_), method=method, against=other)
    if json:
        say_json(result.to_dict())
    else:
        show_check(result, everything=all_, target=for_)
    return 0 if result.ok else 1


def fix(
    file: File,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The new file. The original is never changed.")
    ],
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="CODE", help="Apply only the fix for this code; safe means the default fixes."),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="FILE", help="Held-out rows, for the fix for leaked-row.")
    ] = None,
    changes: Annotated[
        Path | None,
        typer.Option("--changes", metavar="FILE", help="Write every change to this new file, one JSON object a line."),
    ] = None,
    drop_most: Annotated[
        bool, typer.Option("--drop-most", help="Write the file even if errors drop more than half of the rows.")
    ] = False,
    format: Format = "auto",  # noqa: A002 - the option's name
    column: Column = None,
    system: System = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    json: Json = False,
) -> int:
    """Write a corrected copy of a data file, and print each change."""
    from tuneport.cli.show_data import show_fix

    other = open_dataset(against, format, column, system, encoding, sheet) if against else None
    with working(f"Fixing {file}"):
        data = open_dataset(file, format, column, system, encoding, sheet)
        result = data.fix(output, remedies=only, against=other, changes_to=changes, drop_most=drop_most)
    if json:
        say_json(result.to_dict())
    else:
        show_fix(result)
    return 0


def preview(
    file: File,
    for_: For = None,
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=1, help="The number of rows.")] = 3,
    format: Format = "auto",  # noqa: A002 - the option's name
    column: Column = None,
    system: System = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    json: Json = False,
) -> int:
    """Print rows as the model sees them. The parts that are trained on are marked."""
    from tuneport.cli.show_data import show_preview

    with working(f"Opening {file}"):
        data, rules = open_dataset(file, format, column, system, encoding, sheet), _rules_for(for_)
    show_preview(data, rules, rows, as_json=json)
    return 0


def _rules_for(ref: str | None) -> DataRules | None:
    """The rules of the backend and base model that --for names."""
    if ref is None:
        return None
    from tuneport.workflow import find_ref, open_backend

    parsed = find_ref(ref)
    backend = open_backend(parsed.backend)
    backend.check_base(parsed.name)
    return backend.rules(parsed.name)


def _refuse_unknown(method: str) -> None:
    from typing import get_args

    from tuneport.contract.capabilities import Method

    if method not in get_args(Method):
        raise UsageError(f"There is no method {method!r}.", remedy=f"The methods are {', '.join(get_args(Method))}.")


COMMANDS = (check, fix, preview)
