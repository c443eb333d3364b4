"""What commands share: tables, a sign of life, warnings, and questions with yes or no."""

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
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@public(AUTHORS)
@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """A sign of life on stderr while something takes its time, for a person at a terminal; a script gets none. Yields
    what changes its text.
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
    """A table on stdout. Each cell is one line of text, or such a text with its style. No word of it is broken: where
    a terminal is too narrow for that, each row is a few lines of its own.
    """
    from rich.text import Text

    cells = [
        [Text(one_line(text), style) for text, style in ((cell, "") if isinstance(cell, str) else cell for cell in row)]
        for row in rows
    ]
    names = [*columns] if head else ["" for _ in columns]
    least = [
        max([Text(names[place]).cell_len, *(_least(row[place], whole=place == 0) for row in cells)])
        for place in range(len(columns))
    ]
    if sum(least) + 2 * (len(columns) - 1) > console().width:
        _print_stacked(names, cells)
    else:
        _print_side_by_side(names, cells, least, head=head)


def _least(cell: Text, *, whole: bool) -> int:
    """The cells that a text needs: its longest word, or all of it."""
    return cell.cell_len if whole else max((word.cell_len for word in cell.split(" ")), default=0)


def _print_side_by_side(names: list[str], cells: list[list[Text]], least: list[int], *, head: bool) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=head, header_style="dim")
    for number, (name, width) in enumerate(zip(names, least, strict=True)):
        table.add_column(name, overflow="fold", no_wrap=number == 0, min_width=width)  # names are there to be copied
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
    """One warning on stderr, and nothing ends because of it."""
    say(("warning:", "bold yellow"), f" {text}", err=True)


@public(AUTHORS)
def confirmed(question: str, *, yes: bool) -> bool:
    """Whether the user agrees; `yes` is agreement given beforehand. Raises UsageError where nobody can be asked."""
    if yes:
        return True
    prompt(f"{question} [y/N]")
    answer = sys.stdin.readline()
    if not answer:
        say(err=True)
        raise UsageError("Nobody is there to answer.", remedy="Add --yes to do it without asking.")
    if answer.strip().lower() in ("y", "yes"):
        return True
    say("Nothing was done.", err=True)
    return False
