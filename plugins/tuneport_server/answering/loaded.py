"""The models that are loaded, each with a thread that answers with it."""

from __future__ import annotations

import threading

from tuneport.plugin import Ref
from tuneport_server.answering.memory import ModelMemory
from tuneport_server.answering.model_thread import ModelThread, Order
from tuneport_server.answering.questions import Question
from tuneport_server.limits import ResourceLimits
from tuneport_server.wire import WireError


class LoadedModels:
    """One thread for each recently used model. What they have loaded stays within the limits."""

    def __init__(self, limits: ResourceLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._threads: dict[Ref, ModelThread] = {}
        self._memory = ModelMemory(limits.models, limits.memory)
        self._closed = False

    def ask(self, ref: Ref, question: Question) -> None:
        """Put a question to a model, and return at once. Raises WireError if too many questions wait already."""
        with self._lock:
            if self._closed:
                raise WireError(429, "The server is shutting down.", headers={"retry-after": "5"})
            thread = self._threads.get(ref)
            if thread is None:
                thread = self._threads[ref] = ModelThread(ref, self._memory, self._limits, self._may_end)
            waiting = sum(one.waiting(question.owner) for one in self._threads.values())
            if waiting >= self._limits.waiting:
                raise WireError(
                    429,
                    f"{waiting} requests of this access token are already waiting for models.",
                    code="rate_limit_exceeded",
                    headers={"retry-after": "2"},
                )
            thread.questions.put(question)

    def unload(self, ref: Ref) -> None:
        """Unload a model that is about to be deleted. Questions that wait for it get an error."""
        with self._lock:
            thread = self._threads.pop(ref, None)
        if thread is not None:
            thread.questions.put(Order.END)
            thread.thread.join(60)

    def close(self) -> None:
        """Answer no more questions, and unload all models."""
        with self._lock:
            self._closed = True
            refs = list(self._threads)
        self._memory.close()
        for ref in refs:
            self.unload(ref)

    def _may_end(self, thread: ModelThread) -> bool:
        """May an idle thread end? Not if a question has arrived in the meantime."""
        with self._lock:
            if not thread.questions.empty():
                return False
            if self._threads.get(thread.ref) is thread:
                del self._threads[thread.ref]
            return True
