"""Models kept loaded within a bound, each at a desk of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tuneport.plugin import Ref
from tuneport_server.answering.batching import Desk
from tuneport_server.answering.memory import Places
from tuneport_server.answering.questions import Question
from tuneport_server.wire import WireError

if TYPE_CHECKING:
    from tuneport_server.settings import Limits


class Desks:
    """One desk for each model that was asked of late; what they have loaded stays within the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._desks: dict[Ref, Desk] = {}
        self._places = Places(limits.models, limits.memory)
        self._closed = False

    def ask(self, ref: Ref, question: Question) -> None:
        """Put a question to a model and return at once. Raises WireError when too many wait already."""
        with self._lock:
            if self._closed:
                raise WireError(429, "The server is ending. Ask again in a moment.", headers={"retry-after": "5"})
            desk = self._desks.get(ref)
            if desk is None:
                desk = self._desks[ref] = Desk(ref, self._places, self._limits, self._leave)
            waiting = sum(one.waiting(question.owner) for one in self._desks.values())
            if waiting >= self._limits.waiting:
                raise WireError(
                    429,
                    f"{waiting} requests of this token wait for models already.",
                    code="rate_limit_exceeded",
                    headers={"retry-after": "2"},
                )
            desk.questions.put(question)

    def forget(self, ref: Ref) -> None:
        """Give the model back, because it is about to be deleted. Questions that wait are told so."""
        with self._lock:
            desk = self._desks.pop(ref, None)
        if desk is not None:
            desk.questions.put(None)
            desk.thread.join(60)

    def close(self) -> None:
        """Answer nobody any more, and give all models back."""
        with self._lock:
            self._closed = True
            refs = list(self._desks)
        self._places.close()
        for ref in refs:
            self.forget(ref)

    def _leave(self, desk: Desk) -> bool:
        """Whether a desk may end: nobody has come in the meantime."""
        with self._lock:
            if not desk.questions.empty():
                return False
            if self._desks.get(desk.ref) is desk:
                del self._desks[desk.ref]
            return True
