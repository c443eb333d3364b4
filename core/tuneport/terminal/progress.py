"""How far long work has come: reported to the caller's function, or drawn on one line for a person at a terminal or in
a notebook. A script whose output is piped gets nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tuneport.printable import one_line
from tuneport.terminal.outlet import BarStream, is_terminal

Tell = Callable[[int, int, str], None]
"""Takes how much is done, how much there is in all (0: unknown) and a few words."""

_SECONDS_BETWEEN = 0.2
_BAR = 24


@contextmanager
def shown(title: str, asked: Tell | bool | None) -> Iterator[Tell | None]:
    """Yield the function to report progress to: the caller's own, one that draws for a person, or None.

    `asked` is what the caller passed: a function, False for silence, None or True for a line at a terminal or in a
    notebook.
    """
    if callable(asked):
        yield asked
    elif asked is False:
        yield None
    else:
        with progress_line(title) as tell:
            yield tell


@contextmanager
def progress_line(title: str) -> Iterator[Tell | None]:
    """Yield what draws `title`, a bar and a few words over and over on one line of stderr; None where nobody looks."""
    if not is_watched():
        yield None
        return
    line = _Line(title)
    line.draw(0, 0, "")
    try:
        yield line.tell
    finally:
        line.end()


def is_watched() -> bool:
    """Whether a person sees stderr as it is written: at a terminal, or in a notebook."""
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

    def tell(self, done: int, total: int, words: str) -> None:
        """Draw, unless it was drawn a moment ago."""
        self._last = done, total, words
        if time.monotonic() - self._drawn >= _SECONDS_BETWEEN or (total and done >= total):
            self.draw(done, total, words)

    def draw(self, done: int, total: int, words: str) -> None:
        from rich.cells import cell_len

        full = min(_BAR, _BAR * done // total) if total else 0
        bar = f" {'#' * full}{'.' * (_BAR - full)} {done:,}/{total:,}" if total else ""
        text = one_line(f"{self._title}{bar}{f' {words}' if words else ''}")
        width = cell_len(text)  # not of its characters: one may take two cells, or none
        self._stream.write(f"\r{text}{' ' * (self._width - width)}")
        self._width, self._drawn = width, time.monotonic()

    def end(self) -> None:
        """Leave the last line as it stands."""
        if any(self._last):
            self.draw(*self._last)
        self._stream.write("\n")
