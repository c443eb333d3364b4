"""Reads the lines of a chat, with line editing and a history that later chats can recall."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tuneport.homefolder import home
from tuneport.terminal.outlet import is_terminal, read_line

_MOST_LINES = 1_000


@contextmanager
def conversation(*, remember: bool) -> Iterator[Callable[[], str]]:
    """Yield a function that reads the next line, and raises EOFError at the end. On a terminal, the arrow keys edit the
    line and recall older ones. With `remember`, lines of earlier chats too, which are in `chat_history` in home.
    """
    if not is_terminal(stdin=True) or not is_terminal():
        yield lambda: read_line("> ")
        return
    try:
        import readline
    except ImportError:  # Python was built without it; the terminal's own editing remains
        yield lambda: read_line("> ")
        return
    readline.set_auto_history(True)
    readline.clear_history()
    readline.set_history_length(_MOST_LINES)
    history = _history_file() if remember else None
    if history is not None:
        with suppress(OSError, UnicodeError):
            readline.read_history_file(history)
    try:
        yield lambda: read_line("> ")
    finally:
        if history is not None:
            with suppress(OSError):
                readline.write_history_file(history)
                history.chmod(0o600)


def _history_file() -> Path | None:
    """The history file, readable by its owner only, or None if it cannot be created."""
    path = home() / "chat_history"
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        path.chmod(0o600)
    except OSError:
        return None
    return path
