"""What a request asks of a model, and how the answer is delivered."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneport.errors import BackendError, TuneportError
from tuneport.plugin import AnswerPiece, Reply
from tuneport_server.wire import WireError, from_tuneport

_log = logging.getLogger("tuneport.server")

Delivery = tuple[int, AnswerPiece] | list[Reply] | WireError
"""A piece of a streamed answer with the number of its choice; or all replies, one per choice; or the error."""


@dataclass(slots=True, kw_only=True, eq=False)
class Question:
    """What one request asks of a model.

    `deliver` is called from another thread: with each piece if `stream`, and at the end with the replies, one for each
    of the `count` choices, or with the error. Setting `gone` means that the client has disconnected. `params` maps
    options to the request's fields, where those have other names.
    """

    messages: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]
    count: int
    stream: bool
    deliver: Callable[[Delivery], None]
    owner: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    gone: threading.Event = field(default_factory=threading.Event)
    delivered: bool = False  # something was delivered, so the question cannot be answered again

    def joins(self, other: Question) -> bool:
        """Can both be answered in one batch by a model that cannot mix options? Seeded sampling depends on the place in
        the batch, so a seeded question is answered alone.
        """
        seeded = self.options.get("seed") is not None and self.options["temperature"] > 0
        return not seeded and self.options == other.options

    def choice(self, number: int) -> Mapping[str, Any]:
        """Return the options of one choice: each has its own seed."""
        seed = self.options.get("seed")
        return self.options if seed is None else {**self.options, "seed": (seed + number) % 2**63}

    def refuse(self, error: TuneportError) -> None:
        """Deliver an error of tuneport instead of an answer. Log one that the backend did not raise on purpose."""
        if isinstance(error, BackendError) and error.unexpected:
            _log.error("A model could not answer", exc_info=error)
        self.deliver(from_tuneport(error, self.params.get("messages", "messages"), self.params))


class Replies:
    """Delivers what a model answers: pieces as they arrive, and the replies when every choice has one."""

    def __init__(self) -> None:
        self._open: dict[Question, dict[int, Reply]] = {}

    @property
    def open(self) -> list[Question]:
        """The questions that are not answered yet."""
        return list(self._open)

    def expect(self, question: Question) -> None:
        """Wait for the answer to a question."""
        self._open[question] = {}

    def forget(self, question: Question) -> None:
        """Deliver nothing more to a question."""
        self._open.pop(question, None)

    def deliver(self, question: Question, choice: int, output: str | AnswerPiece | Reply | TuneportError) -> None:
        """Pass on what the model returns for one choice."""
        replies = self._open.get(question)
        if replies is None:
            return
        if isinstance(output, TuneportError):
            del self._open[question]
            question.delivered = True
            question.refuse(output)
        elif isinstance(output, Reply):
            replies[choice] = output
            if len(replies) == question.count:
                del self._open[question]
                question.delivered = True
                question.deliver([replies[one] for one in range(question.count)])
        elif question.stream:
            question.delivered = True
            question.deliver((choice, AnswerPiece(text=output) if isinstance(output, str) else output))
