"""What a request asks of a model, and how it is told the answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneport.errors import TuneportError
from tuneport.plugin import AnswerPiece, Reply
from tuneport_server.wire import WireError, of_tuneport

Told = tuple[int, AnswerPiece] | list[Reply] | WireError


@dataclass(slots=True, kw_only=True, eq=False)
class Question:
    """What one request asks of a model. `tell` gets, from another thread, each piece of a streamed answer with the
    number of its choice, and at last the replies, one for each of the `count` choices, or the error. Setting `gone`
    says that nobody listens any more. `params` names the request's fields behind options, where they are called
    otherwise.
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


class Replies:
    """Tells questions what a model answers: pieces as they come, and the replies once every choice has its own."""

    def __init__(self) -> None:
        self._open: dict[Question, dict[int, Reply]] = {}

    @property
    def open(self) -> list[Question]:
        """The questions that are not answered yet."""
        return list(self._open)

    def expect(self, question: Question) -> None:
        """Await the answer to this one."""
        self._open[question] = {}

    def forget(self, question: Question) -> None:
        """Tell it no more."""
        self._open.pop(question, None)

    def tell(self, question: Question, choice: int, told: str | AnswerPiece | Reply | TuneportError) -> None:
        """Pass on what the model says of one choice."""
        replies = self._open.get(question)
        if replies is None:
            return
        if isinstance(told, TuneportError):
            del self._open[question]
            question.told = True
            question.refuse(told)
        elif isinstance(told, Reply):
            replies[choice] = told
            if len(replies) == question.count:
                del self._open[question]
                question.told = True
                question.tell([replies[one] for one in range(question.count)])
        elif question.stream:
            question.told = True
            question.tell((choice, AnswerPiece(text=told) if isinstance(told, str) else told))
