"""Models kept loaded within a bound, each answering whoever waits for it, together where that can be."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tuneport
from tuneport import Model, Ref, Reply, TuneportError
from tuneport_server.places import Places
from tuneport_server.wire import WireError, of_tuneport

if TYPE_CHECKING:
    from tuneport_server.settings import Limits

_IDLE_SECONDS = 600.0  # after which a model that nobody asks is given back
_TURN_SECONDS = 10.0  # how long a busy model keeps others waiting for its place

_log = logging.getLogger("tuneport.server")


Told = tuple[int, str] | list[Reply] | WireError


@dataclass(slots=True, kw_only=True, eq=False)
class Question:
    """What one request asks of a model. `tell` gets, from another thread, each piece of a streamed text with the number
    of its choice, and at last the replies, one for each of the `count` choices, or the error. Setting `gone` says that
    nobody listens any more. `params` names the request's fields behind options, where they are called otherwise.
    """

    messages: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]
    count: int
    stream: bool
    tell: Callable[[Told], None]
    owner: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    gone: threading.Event = field(default_factory=threading.Event)
    told: bool = False  # whether any of it was told: then it cannot be answered anew

    def joins(self, other: Question) -> bool:
        """Whether both can be answered in one batch by a model that cannot mix options. A seeded draw depends on the
        place in it, so it stands alone.
        """
        seeded = self.options.get("seed") is not None and self.options["temperature"] > 0
        return not seeded and self.options == other.options

    def choice(self, number: int) -> Mapping[str, Any]:
        """The options of one of its choices: each has a seed of its own."""
        seed = self.options.get("seed")
        return self.options if seed is None else {**self.options, "seed": (seed + number) % 2**63}

    def refuse(self, error: TuneportError) -> None:
        """Tell an error of tuneport's instead of an answer."""
        self.tell(of_tuneport(error, self.params.get("messages", "messages"), self.params))


class Desks:
    """One desk for each model that was asked of late; what they have loaded stays within the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._desks: dict[Ref, _Desk] = {}
        self._places = Places(limits.models, limits.memory)
        self._closed = False

    def ask(self, ref: Ref, question: Question) -> None:
        """Put a question to a model and return at once. Raises WireError when too many wait already."""
        with self._lock:
            if self._closed:
                raise WireError(429, "The server is ending. Ask again in a moment.", headers={"retry-after": "5"})
            desk = self._desks.get(ref)
            if desk is None:
                desk = self._desks[ref] = _Desk(ref, self._places, self._limits, self._leave)
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

    def _leave(self, desk: _Desk) -> bool:
        """Whether a desk may end: nobody has come in the meantime."""
        with self._lock:
            if not desk.questions.empty():
                return False
            if self._desks.get(desk.ref) is desk:
                del self._desks[desk.ref]
            return True


class _Desk:
    """A thread with a model. It takes what waits, answers it together where options are equal, and goes when idle."""

    def __init__(self, ref: Ref, places: Places, limits: Limits, leave: Callable[[_Desk], bool]) -> None:
        self.ref = ref
        self.questions: queue.Queue[Question | object] = queue.Queue()
        self._places, self._limits, self._leave = places, limits, leave
        self._kept: deque[Question] = deque()  # taken from the queue, and could not join
        self._last = ""  # whose question was answered last
        self._model: Model | None = None
        self._since = 0.0
        self._idle = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"desk {ref}", daemon=True)
        self.thread.start()

    def make_room(self) -> bool:
        """Give the model back when nobody asks it; False when somebody does."""
        if not self._idle.is_set() or not self.questions.empty():
            return False
        self.questions.put(_MAKE_ROOM)
        return True

    def waiting(self, owner: str) -> int:
        """How many questions of a token wait here for people who are still there."""
        both = (*self._kept.copy(), *self.questions.queue.copy())
        return sum(isinstance(one, Question) and one.owner == owner and not one.gone.is_set() for one in both)

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
                    for question in batch:
                        question.refuse(error)
                except Exception:  # noqa: BLE001 - the desk must serve those who come next
                    _log.exception("%s could not answer", self.ref)
                    _tell(batch, WireError(500, "The model could not answer; the server's log says why."))
                if self._places.wanted() and time.monotonic() - self._since > _TURN_SECONDS:
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
            # Tokens take turns: the first of another than the last one's, where there is such.
            chosen = next((one for one in self._kept if one.owner != self._last), self._kept[0])
            self._kept.remove(chosen)
            first: Question | object = chosen
        else:
            self._idle.set()
            try:
                first = self.questions.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                return None if self._leave(self) else []
            finally:
                self._idle.clear()
        if first is None:
            return None
        if not isinstance(first, Question):
            self._give_back()
            return []
        return self._joined([first])

    def _joined(self, batch: list[Question], *, mixed: bool = False) -> list[Question]:
        """The batch with those who wait and can be answered with it: all of them where options may be mixed."""
        self._last = batch[0].owner
        with contextlib.suppress(queue.Empty):
            while len(self._kept) < self._limits.requests:
                found = self.questions.get_nowait()
                if isinstance(found, Question):
                    self._kept.append(found)
                elif found is None:
                    self.questions.put(None)  # to be met again, once those who came first are served
                    break
        first, size, others = batch[0], sum(one.count for one in batch), deque[Question]()
        for one in self._kept:
            fits = size + one.count <= self._limits.batch
            if fits and (mixed or (first.joins(one) and one.joins(first))):
                batch.append(one)
                size += one.count
            else:
                others.append(one)
        self._kept = others
        return [one for one in batch if not one.gone.is_set()]

    def _answer(self, batch: list[Question]) -> None:
        model = self._loaded()
        batch[:] = [one for one in batch if not one.gone.is_set()]  # loading may have taken longer than they waited
        if not batch:
            return
        if model.can_mix:
            batch[:] = self._joined(batch, mixed=True)  # the caller's list: it tells them all what goes wrong
            _answer_each(model, batch)
            return
        try:
            _answer_together(model, batch)
        except TuneportError as error:
            if len(batch) == 1:
                raise
            _log.info("%s answers %d requests one by one: %s", self.ref, len(batch), error.message)
            for question in batch:  # one of them cannot be answered: the others must not suffer for it
                if question.told:
                    question.refuse(error)
                    continue
                try:
                    _answer_together(model, [question])
                except TuneportError as own:
                    question.refuse(own)

    def _loaded(self) -> Model:
        if self._model is None:
            model = tuneport.open_model(self.ref)
            self._places.take(self.ref, model.memory, self.make_room)
            self._since = time.monotonic()
            self._model = model
            try:
                model.ensure_ready()
            except BaseException:
                self._give_back()
                raise
            self._places.weigh(self.ref, model.memory)
        self._places.use(self.ref)
        return self._model

    def _give_back(self) -> None:
        model, self._model = self._model, None
        if model is not None:
            try:
                model.close()
            except Exception:  # noqa: BLE001 - the place must be given back all the same
                _log.exception("%s could not be closed", self.ref)
        self._places.leave(self.ref)


_MAKE_ROOM = object()


def _answer_each(model: Model, batch: Sequence[Question]) -> None:
    """Answer questions of any options in one batch; those that are to stream get each piece as it comes."""
    asking = [(question, choice) for question in batch for choice in range(question.count)]
    replied: dict[Question, dict[int, Reply]] = {question: {} for question in batch}
    over: set[Question] = set()  # answered or refused
    asked = [(question.messages, question.choice(choice)) for question, choice in asking]
    with contextlib.closing(_told_each(model, asked)) as pieces:
        for number, told in pieces:
            question, choice = asking[number]
            if question in over:
                continue
            if isinstance(told, TuneportError):
                over.add(question)
                question.told = True
                question.refuse(told)
            elif isinstance(told, Reply):
                replied[question][choice] = told
                if len(replied[question]) == question.count:
                    over.add(question)
                    _finish(question, [replied[question][one] for one in range(question.count)])
            elif question.stream:
                question.told = True
                question.tell((choice, told))
            if _left_alone([one for one in batch if one not in over]):
                return


def _left_alone(open_: Sequence[Question]) -> bool:
    """Whether some questions of a batch are not answered yet, and nobody waits for any of them."""
    return bool(open_) and all(one.gone.is_set() for one in open_)


def _told_each(
    model: Model, asked: Sequence[tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]]
) -> Generator[tuple[int, str | Reply | TuneportError], None, None]:
    """What the model streams, to be closed: what is not listened to any more is not computed."""
    yield from model.stream_each(asked)


def _answer_together(model: Model, batch: Sequence[Question]) -> None:
    """Answer questions of equal options; those that are to stream get each piece as it comes."""
    asking = [(question, choice) for question in batch for choice in range(question.count)]
    prompts, options = [question.messages for question, _ in asking], batch[0].options
    # A model that computes here is read piece by piece in any case, so that it stops once nobody listens any more.
    if model.memory is None and not any(question.stream for question in batch):
        replies = iter(model.reply_many(prompts, **options))
        for question in batch:
            _finish(question, [next(replies) for _ in range(question.count)])
        return
    replied: dict[Question, dict[int, Reply]] = {question: {} for question in batch}
    with contextlib.closing(_pieces(model, prompts, options)) as pieces:
        for number, told in pieces:
            question, choice = asking[number]
            if isinstance(told, Reply):
                replied[question][choice] = told
                if len(replied[question]) == question.count:
                    _finish(question, [replied[question][one] for one in range(question.count)])
            elif question.stream:
                question.told = True
                question.tell((choice, told))
            if _left_alone([one for one in batch if len(replied[one]) < one.count]):
                return


def _pieces(
    model: Model, prompts: Sequence[Sequence[Mapping[str, Any]]], options: Mapping[str, Any]
) -> Generator[tuple[int, str | Reply], None, None]:
    """What the model streams, to be closed: what is not listened to any more is not computed."""
    yield from model.stream_many(prompts, **options)


def _finish(question: Question, replies: list[Reply]) -> None:
    question.told = True
    question.tell(replies)


def _tell(questions: Iterable[Question], error: WireError) -> None:
    for question in questions:
        question.tell(error)
