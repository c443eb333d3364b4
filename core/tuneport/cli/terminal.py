"""Where commands print: results on stdout, progress and remarks on stderr; plain where there is no terminal."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuneport.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

JSON_VERSION = 1
_LONG_SECONDS = 2.0
_UNBOUNDED = 10_000  # columns: what is piped is not broken into lines

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@cache
def out() -> Console:
    """Standard output."""
    return _console(stderr=False)


@cache
def err() -> Console:
    """Standard error."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process here; the application does it for all commands alike

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream is not None and stream.isatty() else _UNBOUNDED
    # Remarks break between words on a terminal; in results, a long path must stay in one piece to be copied.
    return Plain(stderr=stderr, highlight=False, soft_wrap=not stderr, width=width)


@contextmanager
def working(text: str) -> Iterator[None]:
    """A sign of life on stderr while something takes its time: live on a terminal, else a line once it takes long."""
    if err().is_terminal:
        with err().status(text):
            yield
        return
    line = threading.Timer(_LONG_SECONDS, lambda: err().print(text, markup=False))
    line.daemon = True
    line.start()
    try:
        yield
    finally:
        line.cancel()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, head: bool = True) -> None:
    """A table on stdout. Texts are shown as they are; a cell with a colour is a `rich.text.Text`."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=head, header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number == 0)  # names are there to be copied
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    out().print(table)


def print_json(value: Mapping[str, Any], version: int | None = JSON_VERSION) -> None:
    """One JSON object on stdout."""
    typer.echo(
        json.dumps({"version": version, **value} if version else dict(value), ensure_ascii=False, indent=2, default=str)
    )


def print_json_line(value: Mapping[str, Any]) -> None:
    """One JSON object on a line of its own, at once."""
    sys.stdout.write(json.dumps({"version": JSON_VERSION, **value}, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def warn(text: object) -> None:
    """One warning on stderr, and nothing ends because of it."""
    typer.echo(f"{typer.style('warning:', fg='yellow', bold=True)} {text}", err=True)


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether the user agrees; `yes` is agreement given beforehand. Raises UsageError where nobody can be asked."""
    if yes:
        return True
    err().print(f"{question} \\[y/N] ", end="")
    answer = sys.stdin.readline()
    if not answer:
        err().print()
        raise UsageError("Nobody is there to answer.", remedy="Add --yes to do it without asking.")
    if answer.strip().lower() in ("y", "yes"):
        return True
    err().print("Nothing was done.")
    return False
