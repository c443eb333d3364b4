"""Lines that a person types in a conversation: with editing, and with a history that later conversations know."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tuneport.homefolder import home
from tuneport.terminal.outlet import is_terminal, typed

_MOST_LINES = 1_000


@contextmanager
def conversation(*, remember: bool) -> Iterator[Callable[[], str]]:
    """Yield what reads the next line and raises EOFError at the end. On a terminal the arrow keys edit the line and
    bring back older ones; with `remember`, those of earlier conversations too, which home keeps in `chat_history`.
    """
    if not is_terminal(stdin=True) or not is_terminal():
        yield lambda: typed("> ")
        return
    try:
        import readline
    except ImportError:  # a Python that was built without it: the terminal's own editing is left
        yield lambda: typed("> ")
        return
    readline.set_auto_history(True)
    readline.clear_history()
    readline.set_history_length(_MOST_LINES)
    kept = _history() if remember else None
    if kept is not None:
        with suppress(OSError, UnicodeError):
            readline.read_history_file(kept)
    try:
        yield lambda: typed("> ")
    finally:
        if kept is not None:
            with suppress(OSError):
                readline.write_history_file(kept)
                kept.chmod(0o600)


def _history() -> Path | None:
    """The file of earlier lines, for its owner alone; None where it cannot be one."""
    path = home() / "chat_history"
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        path.chmod(0o600)
    except OSError:
        return None
    return path
