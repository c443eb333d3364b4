"""Conversations that a model answers together, and that may come and go meanwhile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from tuneport.doors import AUTHORS, public

if TYPE_CHECKING:
    from tuneport.contract.answers import AnswerPiece, GenerateOptions, Reply
    from tuneport.dataset import Message
    from tuneport.errors import TuneportError


@public(AUTHORS)
class LiveBatch(ABC):
    """Answers under way. Conversations join and leave between two steps; each is known by a number of the caller's.

    A plugin whose models set `can_join` writes it, and returns one from `Model.open_batch`. One thread uses it at a
    time. A conversation gets the answer that it would get alone, but for rounding.
    """

    @abstractmethod
    def add(self, number: int, prompt: Sequence[Message], options: GenerateOptions) -> None:
        """Answer a conversation too. `Model.join` calls it. Raises TuneportError for one that cannot be answered."""

    @property
    @abstractmethod
    def waiting(self) -> Collection[int]:
        """The conversations that were added and not started yet, because they are being prepared or memory is short."""

    @abstractmethod
    def drop(self, numbers: Sequence[int]) -> None:
        """Stop answering these conversations. Numbers that are not in the batch are ignored."""

    @abstractmethod
    def step(self) -> list[tuple[int, AnswerPiece | Reply | TuneportError]]:
        """Compute a little of every answer. Returns what is new, which may be nothing: the pieces of each answer, and
        at its end its Reply, or the error that ended it.

        A step takes about as long as one token of each answer: what is more work, such as reading a long prompt, is
        spread over many.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop answering, and give the memory back."""
