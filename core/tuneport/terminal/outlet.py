"""The only place that prints. Text from outside cannot control the terminal, and markup in it is not expanded. A test
checks that nothing else in the core or in our plugins prints.
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
_UNBOUNDED = 10_000  # columns: piped output is not wrapped

_INDENT = re.compile(r" *(?:[-→] )?")
_MOVES = re.compile("(\r|\x1b\\[A)")

Part = str | tuple[str, str]
"""Text, or text with a style, such as `("failed", "red")`."""


class Guarded:
    """A standard stream for code that does not use this module: tracebacks, warnings, logs, click, plugins."""

    def __init__(self, beneath: TextIO) -> None:
        self.beneath = beneath

    def write(self, text: str) -> int:
        """Write the text with unsafe characters escaped."""
        self.beneath.write(visible(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write the lines in order."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)


def guard() -> None:
    """Guard both standard streams of this process until it ends. May be called again."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, Guarded):
            continue
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # so that every message can be encoded
        setattr(sys, name, cast(TextIO, Guarded(stream)))


def is_terminal(*, err: bool = False, stdin: bool = False) -> bool:
    """Whether the stream is a terminal."""
    stream = sys.stdin if stdin else _stream(err=err)
    return stream is not None and stream.isatty()


@cache
def console(*, err: bool = False) -> Console:
    """Draws tables and bars on a stream. Text is shown literally: no markup, no emoji codes."""
    from rich.console import Console
    from rich.segment import Segment
    from rich.text import Text

    class Plain(Console):
        @property
        def file(self) -> Any:
            return _stream(err=err) or StringIO()

        @file.setter
        def file(self, _: Any) -> None:
            raise AttributeError("The outlet decides where its text goes.")

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit here; the application handles it for all commands

        def render_str(self, text: str, **_: Any) -> Text:
            return Text(visible(text))

        def render(self, renderable: Any, options: Any = None) -> Any:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(visible(segment.text), segment.style)

    # Text wraps between words on a terminal. In piped results, a long path must stay in one piece.
    width = None if is_terminal(err=err) else _UNBOUNDED
    return Plain(stderr=err, markup=False, emoji=False, highlight=False, soft_wrap=not err, width=width)


@public(AUTHORS)
def say(*parts: Part, err: bool = False) -> None:
    """Print one line on stdout or stderr. A line break in a part is shown as an escape. A narrow terminal wraps
    the line between words.
    """
    shown = [(one_line(one), "") if isinstance(one, str) else (one_line(one[0]), one[1]) for one in parts]
    _put(shown, stderr=err)


def say_interrupted(*lines: str) -> None:
    """Print lines on stderr after Ctrl-C, starting on a new line after the terminal's own ^C."""
    if is_terminal(err=True):
        say(err=True)
    for line in lines:
        say(line, err=True)


@public(AUTHORS)
def say_lines(text: str, style: str = "", *, err: bool = False) -> None:
    """Print text that may have several lines, such as a comparison."""
    _put([(visible(text), style)], stderr=err)


@public(AUTHORS)
def say_json(value: Mapping[str, Any], *, version: int | None = JSON_VERSION, indent: int | None = 2) -> None:
    """Print one JSON object on stdout and flush. Characters that control a terminal are JSON escapes."""
    stream = _stream(err=False)
    facts = {"version": version, **value} if version else dict(value)
    plain = not (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")
    _write(visible_json(json.dumps(facts, ensure_ascii=plain, indent=indent, default=str)) + "\n", stderr=False)


def say_pieces(pieces: Iterator[str]) -> str:
    """Print text as it arrives, end its line, and return the original text. A terminal gets complete words, and lines
    wrap between words.
    """
    stream, received = Stream(), []
    flow = Flow(console().width) if is_terminal() else None
    for piece in pieces:
        received.append(piece)
        shown = stream.feed(piece)
        _write(flow.feed(shown) if flow else shown, stderr=False)
    shown = stream.end()
    _write((flow.feed(shown) + flow.end() if flow else shown) + "\n", stderr=False)
    return "".join(received)


def prompt(question: str) -> None:
    """Print a question on stderr. The answer is typed on the same line."""
    _write(f"{one_line(question)} ", stderr=True)


def read_line(prompt: str) -> str:
    """Read a line that is typed after `prompt`, or the next line of standard input. Raises EOFError at its end."""
    return input(one_line(prompt) if sys.stdin.isatty() else "")


@public(AUTHORS)
def ask_secret(question: str) -> str:
    """Read a line without showing it while it is typed, or the next line of standard input."""
    import getpass

    line = getpass.getpass(one_line(question)) if sys.stdin.isatty() else sys.stdin.readline()
    return line.strip()


@public(AUTHORS)
@contextmanager
def transfer_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr if that is a terminal. Call the yielded function with the bytes of each step."""
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
    """Stderr for a library that draws its own bars. It may return to the start of a line and move up, nothing else."""

    def write(self, text: str) -> int:
        """Write a piece of a bar."""
        pieces = _MOVES.split(text)  # every second piece is a cursor movement
        _write("".join(one if odd % 2 else visible(one) for odd, one in enumerate(pieces)), stderr=True)
        return len(text)

    def flush(self) -> None:
        """Do nothing: every write is flushed."""

    def isatty(self) -> bool:
        """Whether stderr is a terminal, so that a bar makes sense."""
        return is_terminal(err=True)


def wrap(text: Text, width: int) -> Iterator[Text]:
    """Wrap the lines of a text between words at `width` cells; continuation lines keep the indent. A longer word is not
    broken, so that a path can be copied.
    """
    for line in text.split("\n", allow_blank=True):
        indent = min(len(_INDENT.match(line.plain)[0]), width // 2)  # type: ignore[index]  # it always matches
        head, rest = line[:indent], line[indent:]
        for part in rest.divide(_breaks(rest.plain, width - indent)):
            part.rstrip()
            yield head + part
            head = type(text)(" " * indent)


def _breaks(text: str, width: int) -> list[int]:
    """The offsets where new lines start: at words that do not fit on the previous line."""
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
    for line in wrap(Text.assemble(*parts), shown.width):
        shown.print(line, soft_wrap=True)


def _write(text: str, *, stderr: bool) -> None:
    """Write text that is safe already."""
    stream = _stream(err=stderr)
    if stream is None:
        return
    try:
        stream.write(text)
    except UnicodeEncodeError:  # a stream that `guard` did not reconfigure
        stream.write(text.encode("ascii", "backslashreplace").decode())
    stream.flush()


def _stream(*, err: bool) -> TextIO | None:
    found = sys.stderr if err else sys.stdout
    return found.beneath if isinstance(found, Guarded) else found
