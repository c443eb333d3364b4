"""Several backends asked side by side, with a time limit: one that hangs delays no other."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from tuneport.errors import TuneportError, UnavailableError

Key = TypeVar("Key")
Answer = TypeVar("Answer")
SECONDS = 15.0
"""How long a listing waits for backends."""
_AT_ONCE = 8  # questions to one backend


def ask_together(
    questions: Iterable[tuple[str, Key, Callable[[], Answer]]], seconds: float | None = None
) -> dict[Key, Answer | TuneportError | OSError]:
    """The answers by key; of a question that failed, the error, and of one without an answer in time an
    UnavailableError. A question is (backend, key, function).

    Functions run in threads that do not outlive the process; any other exception, SystemExit included, is raised here.
    Signals reach the caller, who waits in the main thread.
    """
    limit = SECONDS if seconds is None else seconds
    asked = list(questions)
    answers: queue.SimpleQueue[tuple[Key, Answer | BaseException]] = queue.SimpleQueue()
    waiting: dict[str, deque[tuple[Key, Callable[[], Answer]]]] = {}
    for backend, key, function in asked:
        waiting.setdefault(backend, deque()).append((key, function))
    for backend, mine in waiting.items():
        for _ in range(min(_AT_ONCE, len(mine))):
            threading.Thread(target=_ask, args=(mine, answers), name=f"ask {backend}", daemon=True).start()
    deadline = time.monotonic() + limit
    found: dict[Key, Answer | TuneportError | OSError] = {}
    while len(found) < len(asked):
        try:
            key, answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if isinstance(answer, BaseException) and not isinstance(answer, TuneportError | OSError):
            raise answer
        found[key] = answer
    for backend, key, _ in asked:
        if key not in found:
            found[key] = UnavailableError(
                f"The backend {backend!r} did not answer within {limit:g} s.",
                remedy="Try again, or look at its service's status page.",
                passing=True,
            )
    for mine in waiting.values():
        mine.clear()
    return found


def _ask(
    mine: deque[tuple[Key, Callable[[], Answer]]], answers: queue.SimpleQueue[tuple[Key, Answer | BaseException]]
) -> None:
    while True:
        try:
            key, function = mine.popleft()
        except IndexError:
            return
        try:
            answers.put((key, function()))
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asked
            answers.put((key, error))
