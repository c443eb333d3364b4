"""How far something has come, for a person who looks: the room that can print registers itself here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Tell = Callable[[int, int, str], None]
"""Takes what is done, what there is in all (0: nobody knows) and a few words."""
Show = Callable[[str], AbstractContextManager[Tell | None]]

_shows: list[Show] = []


def set_show(show: Show) -> None:
    """Say what shows progress: it gets a title and yields where to report to, or None where nobody looks."""
    _shows[:] = [show]


@contextmanager
def shown(title: str, asked: Tell | bool | None) -> Iterator[Tell | None]:
    """Where to report to: the caller's own function, what shows progress to a person, or None.

    `asked` is what the caller passed: a function, False for silence, None or True for what a terminal or a notebook
    shows.
    """
    if callable(asked):
        yield asked
    elif asked is False or not _shows:
        yield None
    else:
        with _shows[0](title) as tell:
            yield tell
