"""The one place where text leaves for the terminal. What came from outside cannot steer it, and no code or markup in it
is expanded; a test holds that nothing else in the core or in our plugins prints.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from io import StringIO
from typing import TYPE_CHECKING, Any, TextIO, cast

from tuneport.doors import AUTHORS, public
from tuneport.printable import Stream, one_line, visible, visible_json
from tuneport.terminal.flow import Flow

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

JSON_VERSION = 1
_UNBOUNDED = 10_000  # columns: what is piped is not broken into lines

_INDENT = re.compile(r" *(?:[-→] )?")
_MOVES = re.compile("(\r|\x1b\\[A)")

Part = str | tuple[str, str]
"""A text, or a text with a style of ours, such as `("failed", "red")`."""


class Guarded:
    """A standard stream for everybody who does not know of this module: tracebacks, warnings, logs, click, plugins."""

    def __init__(self, beneath: TextIO) -> None:
        self.beneath = beneath

    def write(self, text: str) -> int:
        """Write what can be shown of the text."""
        self.beneath.write(visible(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)


def guard() -> None:
    """Put a guard before both standard streams of this process, for good. May be repeated."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, Guarded):
            continue
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter still gets the message
        setattr(sys, name, cast(TextIO, Guarded(stream)))


def is_terminal(*, err: bool = False, stdin: bool = False) -> bool:
    """Whether a person looks at the stream, or types into standard input."""
    stream = sys.stdin if stdin else _stream(err=err)
    return stream is not None and stream.isatty()


@cache
def console(*, err: bool = False) -> Console:
    """What draws tables and bars on a stream. A text that it is handed means itself: no markup, no emoji codes."""
    from rich.console import Console
    from rich.segment import Segment
    from rich.text import Text

    class Plain(Console):
        @property
        def file(self) -> Any:
            return _stream(err=err) or StringIO()

        @file.setter
        def file(self, _: Any) -> None:
            raise AttributeError("The outlet alone says where its text goes.")

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process here; the application does it for all commands alike

        def render_str(self, text: str, **_: Any) -> Text:
            return Text(visible(text))

        def render(self, renderable: Any, options: Any = None) -> Any:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(visible(segment.text), segment.style)

    # Remarks break between words on a terminal; in results, a long path must stay in one piece to be copied.
    width = None if is_terminal(err=err) else _UNBOUNDED
    return Plain(stderr=err, markup=False, emoji=False, highlight=False, soft_wrap=not err, width=width)


@public(AUTHORS)
def say(*parts: Part, err: bool = False) -> None:
    """One line on stdout or stderr. A line break in a part is shown as an escape. A terminal that is narrower shows it
    on several lines, broken between words.
    """
    shown = [(one_line(one), "") if isinstance(one, str) else (one_line(one[0]), one[1]) for one in parts]
    _put(shown, stderr=err)


def say_interrupted(*lines: str) -> None:
    """What is left after Ctrl-C, on stderr: not behind half a line, and not behind the terminal's own ^C."""
    if is_terminal(err=True):
        say(err=True)
    for line in lines:
        say(line, err=True)


@public(AUTHORS)
def say_lines(text: str, style: str = "", *, err: bool = False) -> None:
    """A text that may have several lines, such as a comparison."""
    _put([(visible(text), style)], stderr=err)


@public(AUTHORS)
def say_json(value: Mapping[str, Any], *, version: int | None = JSON_VERSION, indent: int | None = 2) -> None:
    """One JSON object on stdout, at once; what steers a terminal is a JSON escape."""
    stream = _stream(err=False)
    facts = {"version": version, **value} if version else dict(value)
    plain = not (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")
    _write(visible_json(json.dumps(facts, ensure_ascii=plain, indent=indent, default=str)) + "\n", stderr=False)


def say_pieces(pieces: Iterator[str]) -> str:
    """Print a text as it comes, then end its line; return it as it was. A terminal gets it word by word, broken between
    words.
    """
    stream, told = Stream(), []
    flow = Flow(console().width) if is_terminal() else None
    for piece in pieces:
        told.append(piece)
        shown = stream.feed(piece)
        _write(flow.feed(shown) if flow else shown, stderr=False)
    shown = stream.end()
    _write((flow.feed(shown) + flow.end() if flow else shown) + "\n", stderr=False)
    return "".join(told)


def prompt(question: str) -> None:
    """A question on stderr, whose answer is typed on the same line."""
    _write(f"{one_line(question)} ", stderr=True)


def typed(mark: str) -> str:
    """A line that a person types behind `mark`, or the next one of standard input; raises EOFError at its end."""
    return input(one_line(mark) if sys.stdin.isatty() else "")


@public(AUTHORS)
def ask_secret(question: str) -> str:
    """A line that is not shown while it is typed, or the next one of standard input."""
    import getpass

    said = getpass.getpass(one_line(question)) if sys.stdin.isatty() else sys.stdin.readline()
    return said.strip()


@public(AUTHORS)
@contextmanager
def transfer_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr where that is a terminal; what it yields is told how many more of `total` bytes are done."""
    if not is_terminal(err=True):
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, console=console(err=True), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as bars:
        task = bars.add_task(one_line(what), total=total)
        yield lambda done: bars.advance(task, done)


@public(AUTHORS)
class BarStream:
    """Stderr for a library that draws its own bars: it may return to the start of a line and go up, and no more."""

    def write(self, text: str) -> int:
        """Write a piece of a bar."""
        pieces = _MOVES.split(text)  # every second one is a move
        _write("".join(one if odd % 2 else visible(one) for odd, one in enumerate(pieces)), stderr=True)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """Whether a bar makes sense."""
        return is_terminal(err=True)


def folded(text: Text, width: int) -> Iterator[Text]:
    """The lines of a text, broken between words where they are wider than `width` cells, with the indent of the line
    that goes on. A longer word stays whole, so that a path can be copied.
    """
    for line in text.split("\n", allow_blank=True):
        indent = min(len(_INDENT.match(line.plain)[0]), width // 2)  # type: ignore[index]  # it always matches
        head, rest = line[:indent], line[indent:]
        for part in rest.divide(_breaks(rest.plain, width - indent)):
            part.rstrip()
            yield head + part
            head = type(text)(" " * indent)


def _breaks(text: str, width: int) -> list[int]:
    """Where the lines of a text begin, but for the first: at words that do not fit on the line before."""
    from rich.cells import cell_len

    found: list[int] = []
    used = 0
    for word in re.finditer(r"\S+\s*|\s+", text):
        if used and used + cell_len(word[0].rstrip()) > width:
            found.append(word.start())
            used = 0
        used += cell_len(word[0])
    return found


def _put(parts: list[tuple[str, str]], *, stderr: bool) -> None:
    if not is_terminal(err=stderr):
        _write("".join(text for text, _ in parts) + "\n", stderr=stderr)
        return
    from rich.text import Text

    shown = console(err=stderr)
    for line in folded(Text.assemble(*parts), shown.width):
        shown.print(line, soft_wrap=True)


def _write(text: str, *, stderr: bool) -> None:
    """Text that is visible already."""
    stream = _stream(err=stderr)
    if stream is None:
        return
    try:
        stream.write(text)
    except UnicodeEncodeError:  # a stream that `guard` has not seen
        stream.write(text.encode("ascii", "backslashreplace").decode())
    stream.flush()


def _stream(*, err: bool) -> TextIO | None:
    found = sys.stderr if err else sys.stdout
    return found.beneath if isinstance(found, Guarded) else found
