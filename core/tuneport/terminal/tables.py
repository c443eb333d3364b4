"""Tables, spinners, warnings, and yes-or-no questions, for all commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tuneport.doors import AUTHORS, public
from tuneport.errors import UsageError
from tuneport.printable import one_line
from tuneport.terminal.outlet import Part, console, is_terminal, prompt, say

if TYPE_CHECKING:
    from rich.text import Text

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


@public(AUTHORS)
@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner on stderr while something takes time, if stderr is a terminal. Yields a function that changes its
    text.
    """
    if not is_terminal(err=True):
        yield lambda _: None
        return
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    spinner = Spinner("dots", Text(one_line(text)), style="green")
    with Live(spinner, console=console(err=True), transient=True, redirect_stdout=False, redirect_stderr=False):
        yield lambda changed: spinner.update(text=Text(one_line(changed)))


@public(AUTHORS)
def print_table(columns: Sequence[str], rows: Iterable[Sequence[Part]], *, head: bool = True) -> None:
    """Print a table on stdout. Each cell is one line of text, or text with a style. Words are not broken: on a narrow
    terminal, each row is printed as several lines.
    """
    from rich.text import Text

    cells = [
        [Text(one_line(text), style) for text, style in ((cell, "") if isinstance(cell, str) else cell for cell in row)]
        for row in rows
    ]
    names = [*columns] if head else ["" for _ in columns]
    least = [
        max([Text(names[place]).cell_len, *(_needed_width(row[place], whole=place == 0) for row in cells)])
        for place in range(len(columns))
    ]
    if sum(least) + 2 * (len(columns) - 1) > console().width:
        _print_stacked(names, cells)
    else:
        _print_side_by_side(names, cells, least, head=head)


def _needed_width(cell: Text, *, whole: bool) -> int:
    """The width that a text needs in cells: its longest word, or all of it."""
    return cell.cell_len if whole else max((word.cell_len for word in cell.split(" ")), default=0)


def _print_side_by_side(names: list[str], cells: list[list[Text]], least: list[int], *, head: bool) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=head, header_style="dim")
    for number, (name, width) in enumerate(zip(names, least, strict=True)):
        table.add_column(name, overflow="fold", no_wrap=number == 0, min_width=width)  # a name must be easy to copy
    for row in cells:
        table.add_row(*row)
    console().print(table)


def _print_stacked(names: list[str], cells: list[list[Text]]) -> None:
    for first, *others in cells:
        say((first.plain, "bold"))
        for name, cell in zip(names[1:], others, strict=True):
            if cell.plain:
                say("  ", (f"{name} " if name else "", "dim"), (cell.plain, str(cell.style)))


def warn(text: object) -> None:
    """Print a warning on stderr."""
    say(("warning:", "bold yellow"), f" {text}", err=True)


@public(AUTHORS)
def confirm(question: str, *, yes: bool) -> bool:
    """Ask the user to confirm; `yes` confirms in advance. Raises UsageError if standard input has no answer."""
    if yes:
        return True
    prompt(f"{question} [y/N]")
    answer = sys.stdin.readline()
    if not answer:
        say(err=True)
        raise UsageError("There is no terminal to ask for confirmation.", remedy="Add --yes to confirm in advance.")
    if answer.strip().lower() in ("y", "yes"):
        return True
    say("Nothing was done.", err=True)
    return False
