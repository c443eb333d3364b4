"""Progress of long work: passed to the caller's function, or drawn on one line at a terminal or in a notebook. A script
whose output is piped prints nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tuneport.printable import one_line
from tuneport.terminal.outlet import BarStream, is_terminal

Progress = Callable[[int, int, str], None]
"""Is called with the amount done, the total (0: unknown) and a few words."""

_SECONDS_BETWEEN = 0.2
_BAR = 24


@contextmanager
def show_progress(title: str, wanted: Progress | bool | None) -> Iterator[Progress | None]:
    """Yield the function to report progress to: the caller's own, one that draws a line, or None.

    `wanted` is what the caller passed: a function, False for silence, or None or True for a line at a terminal or in a
    notebook.
    """
    if callable(wanted):
        yield wanted
    elif wanted is False:
        yield None
    else:
        with progress_line(title) as report:
            yield report


@contextmanager
def progress_line(title: str) -> Iterator[Progress | None]:
    """Yield a function that redraws `title`, a bar and a few words on one line of stderr; None where nobody watches."""
    if not is_watched():
        yield None
        return
    line = _Line(title)
    line.draw(0, 0, "")
    try:
        yield line.update
    finally:
        line.end()


def is_watched() -> bool:
    """Whether a person can see stderr live: at a terminal, or in a notebook."""
    return is_terminal(err=True) or in_notebook()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    found = shell.get_ipython() if shell is not None and hasattr(shell, "get_ipython") else None
    return found is not None and getattr(found, "kernel", None) is not None


class _Line:
    def __init__(self, title: str) -> None:
        self._title, self._stream = title, BarStream()
        self._drawn = 0.0
        self._width = 0
        self._last: tuple[int, int, str] = (0, 0, "")

    def update(self, done: int, total: int, words: str) -> None:
        """Draw, unless the line was just drawn."""
        self._last = done, total, words
        if time.monotonic() - self._drawn >= _SECONDS_BETWEEN or (total and done >= total):
            self.draw(done, total, words)

    def draw(self, done: int, total: int, words: str) -> None:
        from rich.cells import cell_len

        full = min(_BAR, _BAR * done // total) if total else 0
        bar = f" {'#' * full}{'.' * (_BAR - full)} {done:,}/{total:,}" if total else ""
        text = one_line(f"{self._title}{bar}{f' {words}' if words else ''}")
        width = cell_len(text)  # in cells: a character may take two, or none
        self._stream.write(f"\r{text}{' ' * (self._width - width)}")
        self._width, self._drawn = width, time.monotonic()

    def end(self) -> None:
        """Draw the last state and end the line."""
        if any(self._last):
            self.draw(*self._last)
        self._stream.write("\n")
