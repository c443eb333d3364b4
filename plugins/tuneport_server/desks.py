"""Models kept loaded within a bound, each answering whoever waits for it, together where that can be."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tuneport
from tuneport import Model, Ref, Reply, TuneportError
from tuneport_server.wire import WireError, of_tuneport

if TYPE_CHECKING:
    from tuneport_server.limits import Limits

_IDLE_SECONDS = 600.0  # after which a model that nobody asks is given back
_TURN_SECONDS = 10.0  # how long a busy model keeps others waiting for its place

_log = logging.getLogger("tuneport.server")


@dataclass(slots=True, kw_only=True)
class Question:
    """What one request asks of a model. `tell` gets, from another thread, each piece of a streamed text and at last the
    replies, one for each of the `count` choices, or the error. A stream that is answered together with others comes in
    one piece. Setting `gone` says that nobody listens any more.
    """

    messages: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]
    count: int
    stream: bool
    tell: Callable[[str | list[Reply] | WireError], None]
    gone: threading.Event = field(default_factory=threading.Event)

    def joins(self, other: Question) -> bool:
        """Whether both can be answered in one batch. A seeded draw depends on the place in it, so it stands alone."""
        seeded = self.options.get("seed") is not None and self.options["temperature"] > 0
        return not seeded and self.options == other.options


class Desks:
    """One desk for each model that was asked of late; at most `limits.models` of them have it loaded at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._desks: dict[Ref, _Desk] = {}
        self._seated: dict[Ref, float] = {}  # who is loaded, since when it was last used
        self._waiting = 0
        self._closed = False

    def ask(self, ref: Ref, question: Question) -> None:
        """Put a question to a model and return at once. Raises WireError when too many wait already."""
        with self._changed:
            if self._closed:
                raise WireError(429, "The server is ending. Ask again in a moment.", headers={"retry-after": "5"})
            desk = self._desks.get(ref)
            if desk is None:
                desk = self._desks[ref] = _Desk(ref, self, self._limits)
            if desk.questions.qsize() >= self._limits.waiting:
                raise WireError(
                    429,
                    f"{desk.questions.qsize()} requests wait for this model already.",
                    code="rate_limit_exceeded",
                    headers={"retry-after": "2"},
                )
            desk.questions.put(question)

    def forget(self, ref: Ref) -> None:
        """Give the model back, because it is about to be deleted. Questions that wait are told so."""
        with self._changed:
            desk = self._desks.pop(ref, None)
        if desk is not None:
            desk.questions.put(None)
            desk.thread.join(60)

    def close(self) -> None:
        """Answer nobody any more, and give all models back."""
        with self._changed:
            self._closed = True
            refs = list(self._desks)
            self._changed.notify_all()
        for ref in refs:
            self.forget(ref)

    def seat(self, desk: _Desk) -> None:
        """Wait until the desk may have its model loaded; the one that was not asked for longest makes room."""
        with self._changed:
            self._waiting += 1
            try:
                while desk.ref not in self._seated and len(self._seated) >= self._limits.models and not self._closed:
                    if not self._evict():
                        self._changed.wait(1.0)
                self._seated[desk.ref] = time.monotonic()
            finally:
                self._waiting -= 1

    def unseat(self, desk: _Desk) -> None:
        """The desk has given its model back."""
        with self._changed:
            self._seated.pop(desk.ref, None)
            self._changed.notify_all()

    def crowded(self) -> bool:
        """Whether a desk waits for a place."""
        return self._waiting > 0

    def leave(self, desk: _Desk) -> bool:
        """Whether the desk may end: nobody has come in the meantime."""
        with self._changed:
            if not desk.questions.empty():
                return False
            if self._desks.get(desk.ref) is desk:
                del self._desks[desk.ref]
            return True

    def _evict(self) -> bool:
        for ref in sorted(self._seated, key=lambda one: self._seated[one]):
            desk = self._desks.get(ref)
            if desk is not None and desk.idle.is_set() and desk.questions.empty():
                desk.idle.clear()
                desk.questions.put(_MAKE_ROOM)
                self._changed.wait(1.0)
                return True
        return False


class _Desk:
    """A thread with a model. It takes what waits, answers it together where options are equal, and goes when idle."""

    def __init__(self, ref: Ref, desks: Desks, limits: Limits) -> None:
        self.ref = ref
        self.questions: queue.Queue[Question | object] = queue.Queue()
        self.idle = threading.Event()
        self._desks, self._limits = desks, limits
        self._kept: deque[Question] = deque()  # taken from the queue, and could not join
        self._model: Model | None = None
        self._since = 0.0
        self.thread = threading.Thread(target=self._run, name=f"desk {ref}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                if not batch:
                    continue
                try:
                    self._answer(batch)
                except WireError as error:
                    _tell(batch, error)
                except TuneportError as error:
                    _tell(batch, of_tuneport(error, "messages"))
                except Exception:  # noqa: BLE001 - the desk must serve those who come next
                    _log.exception("%s could not answer", self.ref)
                    _tell(batch, WireError(500, "The model could not answer; the server's log says why."))
                if self._desks.crowded() and time.monotonic() - self._since > _TURN_SECONDS:
                    self._give_back()
        finally:
            self._give_back()
            gone = WireError(404, "The model was deleted, or the server is ending.", code="model_not_found")
            _tell(self._kept, gone)
            while not self.questions.empty():
                waiting = self.questions.get()
                if isinstance(waiting, Question):
                    waiting.tell(gone)

    def _next(self) -> list[Question] | None:
        """The questions to answer next; none when there is another thing to look at, None when it is time to go."""
        if self._kept:
            first: Question | object = self._kept.popleft()
        else:
            self.idle.set()
            try:
                first = self.questions.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                return None if self._desks.leave(self) else []
            self.idle.clear()
        if first is None:
            return None
        if not isinstance(first, Question):
            self._give_back()
            return []
        return self._joined(first)

    def _joined(self, first: Question) -> list[Question]:
        with contextlib.suppress(queue.Empty):
            while len(self._kept) < self._limits.waiting:
                found = self.questions.get_nowait()
                if isinstance(found, Question):
                    self._kept.append(found)
                elif found is None:
                    self.questions.put(None)  # to be met again, once those who came first are served
                    break
        batch, size, others = [first], first.count, deque[Question]()
        for one in self._kept:
            if first.joins(one) and one.joins(first) and size + one.count <= self._limits.batch:
                batch.append(one)
                size += one.count
            else:
                others.append(one)
        self._kept = others
        return [one for one in batch if not one.gone.is_set()]

    def _answer(self, batch: list[Question]) -> None:
        if self._model is None:
            self._desks.seat(self)
            self._since = time.monotonic()
            self._model = tuneport.open_model(self.ref)
            self._model.ensure_ready()
            batch = [one for one in batch if not one.gone.is_set()]  # loading may have taken longer than they waited
            if not batch:
                return
        model = self._model
        if len(batch) == 1 and batch[0].stream:
            self._stream(model, batch[0])
            return
        prompts = [question.messages for question in batch for _ in range(question.count)]
        try:
            replies = model.reply_many(prompts, **batch[0].options)
        except TuneportError as error:
            if len(batch) == 1:
                raise
            _log.info("%s answers %d requests one by one: %s", self.ref, len(batch), error.message)
            for question in batch:  # one of them cannot be answered: the others must not suffer for it
                try:
                    question.tell(model.reply_many([question.messages] * question.count, **question.options))
                except TuneportError as own:
                    question.tell(of_tuneport(own, "messages"))
            return
        given = iter(replies)
        for question in batch:
            question.tell([next(given) for _ in range(question.count)])

    def _stream(self, model: Model, question: Question) -> None:
        pieces = model.stream(question.messages, **question.options)
        text = ""
        try:
            while not question.gone.is_set():
                piece = next(pieces)
                text += piece
                question.tell(piece)
        except StopIteration as end:
            question.tell([end.value if isinstance(end.value, Reply) else Reply(text=text)])
        finally:
            if hasattr(pieces, "close"):
                pieces.close()

    def _give_back(self) -> None:
        model, self._model = self._model, None
        if model is not None:
            try:
                model.close()
            except Exception:  # noqa: BLE001 - the place must be given back all the same
                _log.exception("%s could not be closed", self.ref)
        self._desks.unseat(self)


_MAKE_ROOM = object()


def _tell(questions: Iterable[Question], error: WireError) -> None:
    for question in questions:
        question.tell(error)
