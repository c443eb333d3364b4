"""A loaded model that answers those who wait for it, together where that can be."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import tuneport
from tuneport.errors import TuneportError
from tuneport.plugin import Model, Ref, Reply
from tuneport_server.answering.questions import Question, Replies
from tuneport_server.wire import WireError

if TYPE_CHECKING:
    from tuneport.plugin import LiveBatch
    from tuneport_server.answering.memory import Places
    from tuneport_server.settings import Limits

_IDLE_SECONDS = 600.0  # after which a model that nobody asks is given back
_TURN_SECONDS = 10.0  # how long a busy model keeps others waiting for its place
_MOST_WAITING = 4  # conversations of one token that are handed to the model and wait for its memory
_MAKE_ROOM = object()

_log = logging.getLogger("tuneport.server")


class Desk:
    """A thread with a model. It answers what waits, together where that can be, and goes when idle."""

    def __init__(self, ref: Ref, places: Places, limits: Limits, leave: Callable[[Desk], bool]) -> None:
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
                if self._over_time():
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

    def _collect(self) -> None:
        """Look at the questions that have come."""
        with contextlib.suppress(queue.Empty):
            while len(self._kept) < self._limits.requests:
                found = self.questions.get_nowait()
                if isinstance(found, Question):
                    self._kept.append(found)
                elif found is None:
                    self.questions.put(None)  # to be met again, once those who came first are served
                    break
        if any(one.gone.is_set() for one in self._kept):
            self._kept = deque(one for one in self._kept if not one.gone.is_set())

    def _joined(self, batch: list[Question], *, mixed: bool = False) -> list[Question]:
        """The batch with those who wait and can be answered with it: all of them where options may be mixed."""
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

    def _answer(self, batch: list[Question]) -> None:
        """Answer them. Where it fails, `batch` are those who were told nothing of it yet."""
        model = self._loaded()
        batch[:] = [one for one in batch if not one.gone.is_set()]  # loading may have taken longer than they waited
        if not batch:
            return
        if model.can_join:
            self._kept.extendleft(reversed(batch))
            batch.clear()
            self._answer_live(model, batch)
            return
        batch[:] = self._joined(batch, mixed=model.can_mix)
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

    def _answer_live(self, model: Model, failed: list[Question]) -> None:
        """Answer all who come, each from the moment that there is room, until nobody waits or others want the place.
        The choices of a question join one by one: it needs no more room at once than one that asks for a single answer.
        """
        replies, live = Replies(), dict[int, tuple[Question, int]]()
        begun: Counter[Question] = Counter()  # how many of its choices have joined
        numbers = itertools.count()
        try:
            with contextlib.closing(model.open_batch()) as batch:
                while True:
                    self._collect()
                    while (question := self._chosen(batch, live, begun)) is not None:
                        if question not in begun:
                            replies.expect(question)
                        choice = self._begin(question, begun)
                        live[number := next(numbers)] = question, choice
                        try:
                            model.join(batch, number, question.messages, **question.choice(choice))
                        except TuneportError as error:
                            replies.tell(question, choice, error)
                    if not live:
                        return
                    news = batch.step()
                    for number, told in news:
                        replies.tell(*live[number], told)
                    for question in replies.open:
                        if question.gone.is_set():
                            replies.forget(question)
                    awaited = set(replies.open)
                    over = [number for number, (question, _) in live.items() if question not in awaited]
                    batch.drop(over)
                    for number in {*over, *(number for number, told in news if isinstance(told, Reply))}:
                        del live[number]
                    self._forget(begun, [one for one in begun if one not in awaited])
        except BaseException:
            failed[:] = replies.open
            self._forget(begun, list(begun))
            raise

    def _begin(self, question: Question, begun: Counter[Question]) -> int:
        """The number of the question's next choice, which begins now."""
        self._last = question.owner
        begun[question] += 1
        if begun[question] == question.count:
            self._kept.remove(question)
        return begun[question] - 1

    def _forget(self, begun: Counter[Question], questions: Sequence[Question]) -> None:
        """Begin no more choices of these."""
        for question in questions:
            del begun[question]
            with contextlib.suppress(ValueError):
                self._kept.remove(question)

    def _chosen(
        self, batch: LiveBatch, live: Mapping[int, tuple[Question, int]], begun: Mapping[Question, int]
    ) -> Question | None:
        """The question of which a choice is answered next, if there is room for one: of the token that has the fewest
        answers under way. A quarter of the room is never one token's, and few of its questions may stand in front of
        others. Only those that are begun go on while others want the place.
        """
        if not self._kept:
            return None
        ending = self._over_time()
        most, share = self._limits.batch, self._limits.batch - self._limits.batch // 4
        held = Counter(question.owner for question, _ in live.values())
        waiting = Counter(live[number][0].owner for number in batch.waiting)
        able = [
            one
            for one in self._kept
            if (one in begun or not ending)
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

    def _over_time(self) -> bool:
        """Whether others have waited long enough for this model's place."""
        return self._places.wanted() and time.monotonic() - self._since > _TURN_SECONDS

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


def _answer_together(model: Model, batch: Sequence[Question]) -> None:
    """Answer these questions in one batch. It ends when nobody waits for it any more."""
    asking = [(question, choice) for question in batch for choice in range(question.count)]
    replies = Replies()
    for question in batch:
        replies.expect(question)
    with contextlib.closing(_told(model, batch, asking)) as pieces:
        for number, told in pieces:
            replies.tell(*asking[number], told)
            awaited = replies.open
            if awaited and all(one.gone.is_set() for one in awaited):
                return


def _told(
    model: Model, batch: Sequence[Question], asking: Sequence[tuple[Question, int]]
) -> Generator[tuple[int, str | Reply | TuneportError], None, None]:
    """What the model tells of each, to be closed: what is not listened to any more is not computed."""
    if model.can_mix:
        yield from model.stream_each([(question.messages, question.choice(choice)) for question, choice in asking])
        return
    prompts, options = [question.messages for question, _ in asking], batch[0].options
    # A model that computes here is read piece by piece in any case, so that it stops once nobody listens any more.
    if model.memory is None and not any(question.stream for question in batch):
        yield from enumerate(model.reply_many(prompts, **options))
    else:
        yield from model.stream_many(prompts, **options)


def _tell(questions: Iterable[Question], error: WireError) -> None:
    for question in questions:
        question.tell(error)
