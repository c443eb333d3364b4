"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuneport.cli import complete
from tuneport.errors import UsageError

if TYPE_CHECKING:
    from tuneport.dataset import Dataset

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
        "--format",
        metavar="FORMAT",
        help="The kind of file: jsonl, json, csv, tsv, parquet, xlsx, xls or ods. auto uses the file's name.",
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", metavar="NAME", help="The encoding of a text file that is not UTF-8, such as latin-1."),
]
Sheet = Annotated[
    str | None, typer.Option("--sheet", metavar="NAME", help="The sheet of a workbook to read (default: the first).")
]
Column = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="OURS=THEIRS", help="Which column has which meaning, such as text=body. Can be repeated."
    ),
]
System = Annotated[
    str | None, typer.Option("--system", metavar="TEXT", help="A system prompt for rows that have none.")
]
JobRef = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="The job: a reference, its name or the start of its name, or last.",
        autocompletion=complete.jobs,
    ),
]
ModelRef = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="A tuned or base model: a reference, a job's name or the start of its name, or last.",
        autocompletion=complete.models,
    ),
]
SchemaFile = Annotated[
    Path | None,
    typer.Option("--schema", metavar="FILE", help="A JSON Schema that each answer must follow."),
]


def open_dataset(
    file: str,
    format: str = "auto",  # noqa: A002 - the option's name
    column: list[str] | None = None,
    system: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
) -> Dataset:
    """The dataset that a command's arguments describe."""
    from tuneport.workflow import load_dataset

    return load_dataset(file, format, parse_columns(column) or None, system=system, encoding=encoding, sheet=sheet)


def parse_columns(column: list[str] | None) -> dict[str, str]:
    """The values of --column as a mapping."""
    pairs = dict(one.partition("=")[::2] for one in column or ())
    if not all(pairs.values()):
        raise UsageError(
            "--column must be OURS=THEIRS.", remedy="Write, for example: --column text=body --column label=queue"
        )
    return pairs
