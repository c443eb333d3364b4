"""A thread with a loaded model. It answers the questions that wait, in batches where the model can."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING

import tuneport
from tuneport.errors import TuneportError
from tuneport.plugin import Model, Ref, Reply
from tuneport_server.answering.memory import ModelMemory
from tuneport_server.answering.questions import Question, Replies
from tuneport_server.limits import ResourceLimits
from tuneport_server.wire import WireError

if TYPE_CHECKING:
    from tuneport.plugin import LiveBatch

_IDLE_SECONDS = 600.0  # after which an unused model is unloaded
_TURN_SECONDS = 10.0  # for which a busy model keeps its room while others wait for it
_MOST_WAITING = 4  # conversations of one access token that are passed to the model and wait for its memory

_log = logging.getLogger("tuneport.server")


class Order(Enum):
    """What a thread should do next, in its queue of questions."""

    UNLOAD = "unload the model, and go on when a question arrives"
    END = "answer what came before, and end"


class ModelThread:
    """A thread with a model, which it loads for the first question and unloads when idle.

    `questions` may be used from any thread. `may_end` is called when the thread is idle, and returns whether it may
    end.
    """

    def __init__(
        self, ref: Ref, memory: ModelMemory, limits: ResourceLimits, may_end: Callable[[ModelThread], bool]
    ) -> None:
        self.ref = ref
        self.questions: queue.Queue[Question | Order] = queue.Queue()
        self._memory, self._limits, self._may_end = memory, limits, may_end
        self._kept: deque[Question] = deque()  # taken from the queue, but not answered yet
        self._last = ""  # the owner of the latest question
        self._model: Model | None = None
        self._since = 0.0
        self._idle = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"model {ref}", daemon=True)
        self.thread.start()

    def make_room(self) -> bool:
        """Unload the model if it is not in use. Returns False if it is."""
        if not self._idle.is_set() or not self.questions.empty():
            return False
        self.questions.put(Order.UNLOAD)
        return True

    def waiting(self, owner: str) -> int:
        """Return how many questions of an owner wait here, of clients that are still connected."""
        both = (*self._kept.copy(), *self.questions.queue.copy())
        return sum(isinstance(one, Question) and one.owner == owner and not one.gone.is_set() for one in both)

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                if batch:
                    self._answer_or_refuse(batch)
                    if self._must_unload():
                        self._unload()
        finally:
            self._unload()
            error = WireError(404, "The model was deleted, or the server is shutting down.", code="model_not_found")
            _refuse(self._kept, error)
            while not self.questions.empty():
                waiting = self.questions.get()
                if isinstance(waiting, Question):
                    waiting.deliver(error)

    def _next(self) -> list[Question] | None:
        """Return the questions to answer next; none after an order to unload, None when the thread should end."""
        if self._kept:
            # Owners take turns: the first question of another owner than the latest one, if there is one.
            first: Question | Order = next((one for one in self._kept if one.owner != self._last), self._kept[0])
            assert isinstance(first, Question)
            self._kept.remove(first)
        else:
            self._idle.set()
            try:
                first = self.questions.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                return None if self._may_end(self) else []
            finally:
                self._idle.clear()
        if first is Order.END:
            return None
        if not isinstance(first, Question):
            self._unload()
            return []
        return self._with_others([first])

    def _collect(self) -> None:
        """Take the questions that have arrived out of the queue."""
        with contextlib.suppress(queue.Empty):
            while len(self._kept) < self._limits.requests:
                found = self.questions.get_nowait()
                if isinstance(found, Question):
                    self._kept.append(found)
                elif found is Order.END:
                    self.questions.put(Order.END)  # for later, when the questions that came first are answered
                    break
        if any(one.gone.is_set() for one in self._kept):
            self._kept = deque(one for one in self._kept if not one.gone.is_set())

    def _with_others(self, batch: list[Question], *, mixed: bool = False) -> list[Question]:
        """Return the batch with waiting questions that can be answered with it: all of them if options may be mixed."""
        self._last = batch[0].owner
        self._collect()
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

    def _answer_or_refuse(self, batch: list[Question]) -> None:
        try:
            self._answer(batch)
        except WireError as error:
            _refuse(batch, error)
        except TuneportError as error:
            for question in batch:
                question.refuse(error)
        except Exception:  # noqa: BLE001 - the thread must serve the next questions
            _log.exception("%s could not answer", self.ref)
            _refuse(batch, WireError(500, "The model could not answer; see the server log."))

    def _answer(self, batch: list[Question]) -> None:
        """Answer these questions. If it fails, `batch` are those to which nothing was delivered yet."""
        model = self._load()
        batch[:] = [
            one for one in batch if not one.gone.is_set()
        ]  # clients may have disconnected while the model was loaded
        if not batch:
            return
        if model.can_join:
            self._kept.extendleft(reversed(batch))
            batch.clear()
            self._answer_live(model, batch)
            return
        batch[:] = self._with_others(batch, mixed=model.can_mix)
        try:
            _answer_together(model, batch)
        except TuneportError as error:
            if len(batch) == 1:
                raise
            _log.info("%s answers %d requests one by one: %s", self.ref, len(batch), error.message)
            for question in batch:  # one of them cannot be answered, the others can
                if question.delivered:
                    question.refuse(error)
                    continue
                try:
                    _answer_together(model, [question])
                except TuneportError as own:
                    question.refuse(own)

    def _answer_live(self, model: Model, failed: list[Question]) -> None:
        """Answer questions as they arrive, as soon as there is room for each, until none waits or another model needs
        the room. The choices of a question join one by one, so it needs no more room at once than one with a single
        choice.
        """
        replies, live = Replies(), dict[int, tuple[Question, int]]()
        started: Counter[Question] = Counter()  # how many of its choices have joined the batch
        numbers = itertools.count()
        try:
            with contextlib.closing(model.open_batch()) as batch:
                while True:
                    self._collect()
                    while (question := self._chosen(batch, live, started)) is not None:
                        if question not in started:
                            replies.expect(question)
                        choice = self._begin(question, started)
                        live[number := next(numbers)] = question, choice
                        try:
                            model.join(batch, number, question.messages, **question.choice(choice))
                        except TuneportError as error:
                            replies.deliver(question, choice, error)
                    if not live:
                        return
                    news = batch.step()
                    for number, output in news:
                        replies.deliver(*live[number], output)
                    for question in replies.open:
                        if question.gone.is_set():
                            replies.forget(question)
                    awaited = set(replies.open)
                    over = [number for number, (question, _) in live.items() if question not in awaited]
                    batch.drop(over)
                    for number in {*over, *(number for number, output in news if isinstance(output, Reply))}:
                        del live[number]
                    self._forget(started, [one for one in started if one not in awaited])
        except BaseException:
            failed[:] = replies.open
            self._forget(started, list(started))
            raise

    def _begin(self, question: Question, started: Counter[Question]) -> int:
        """Return the number of the question's next choice, which begins now."""
        self._last = question.owner
        started[question] += 1
        if started[question] == question.count:
            self._kept.remove(question)
        return started[question] - 1

    def _forget(self, started: Counter[Question], questions: Sequence[Question]) -> None:
        """Begin no more choices of these questions."""
        for question in questions:
            del started[question]
            with contextlib.suppress(ValueError):
                self._kept.remove(question)

    def _chosen(
        self, batch: LiveBatch, live: Mapping[int, tuple[Question, int]], started: Mapping[Question, int]
    ) -> Question | None:
        """Return the question whose next choice is answered, if there is room: one of the owner with the fewest answers
        in progress. One owner uses at most three quarters of the room, and only a few of its questions may wait for
        memory before those of others. While another model needs the room, only questions that have started continue.
        """
        if not self._kept:
            return None
        ending = self._must_unload()
        most, share = self._limits.batch, self._limits.batch - self._limits.batch // 4
        held = Counter(question.owner for question, _ in live.values())
        waiting = Counter(live[number][0].owner for number in batch.waiting)
        able = [
            one
            for one in self._kept
            if (one in started or not ending)
            and (
                not live
                or (
                    len(live) < most
                    and (not held[one.owner] or held[one.owner] < share)
                    and waiting[one.owner] < _MOST_WAITING
                )
            )
        ]
        if not able:
            return None
        return min(able, key=lambda one: (held[one.owner], one.owner == self._last))

    def _must_unload(self) -> bool:
        """Has another model waited long enough for the room of this one?"""
        return self._memory.is_wanted() and time.monotonic() - self._since > _TURN_SECONDS

    def _load(self) -> Model:
        if self._model is None:
            model = tuneport.open_model(self.ref)
            self._memory.reserve(self.ref, model.memory, self.make_room)
            self._since = time.monotonic()
            self._model = model
            try:
                # A deployment costs money, so only a user starts one.
                if tuneport.open_backend(self.ref.backend).capabilities.local:
                    model.ensure_ready()
            except BaseException:
                self._unload()
                raise
            self._memory.resize(self.ref, model.memory)
        self._memory.touch(self.ref)
        return self._model

    def _unload(self) -> None:
        model, self._model = self._model, None
        if model is not None:
            try:
                model.close()
            except Exception:  # noqa: BLE001 - its room must be released all the same
                _log.exception("%s could not be closed", self.ref)
        self._memory.release(self.ref)


def _answer_together(model: Model, batch: Sequence[Question]) -> None:
    """Answer these questions in one batch. It stops when no client listens any more."""
    choices = [(question, choice) for question in batch for choice in range(question.count)]
    replies = Replies()
    for question in batch:
        replies.expect(question)
    with contextlib.closing(_outputs(model, batch, choices)) as pieces:
        for number, output in pieces:
            replies.deliver(*choices[number], output)
            awaited = replies.open
            if awaited and all(one.gone.is_set() for one in awaited):
                return


def _outputs(
    model: Model, batch: Sequence[Question], choices: Sequence[tuple[Question, int]]
) -> Generator[tuple[int, str | Reply | TuneportError], None, None]:
    """Yield what the model returns for each choice. Closing the generator stops the computation."""
    if model.can_mix:
        yield from model.stream_each([(question.messages, question.choice(choice)) for question, choice in choices])
        return
    prompts, options = [question.messages for question, _ in choices], batch[0].options
    # A model that computes on this machine is read piece by piece in any case, so that it stops when no client listens.
    if model.memory is None and not any(question.stream for question in batch):
        yield from enumerate(model.reply_many(prompts, **options))
    else:
        yield from model.stream_many(prompts, **options)


def _refuse(questions: Iterable[Question], error: WireError) -> None:
    for question in questions:
        question.deliver(error)
