"""A served model's reasoning: in a field next to the answer, or as a block at its very start."""

from __future__ import annotations

from typing import Any

FIELDS = ("reasoning_content", "reasoning")
_OPENS, _CLOSES = "<think>", "</think>"


def reasoning_of(message: Any) -> str | None:
    """The reasoning in a message or in a piece of one, where the server sends it apart from the answer."""
    given = (getattr(message, name, None) for name in FIELDS)
    return next((one for one in given if isinstance(one, str) and one), None)


class Splitter:
    """Splits a text that arrives in pieces into a block of reasoning at its very start and the answer after it."""

    def __init__(self, *, inline: bool) -> None:
        """`inline`: the server may pass on what the model wrote, including the block."""
        self._held = ""
        self._answering = not inline
        self._is_after_block = False
        self.thinking: str | None = None

    def feed(self, piece: str) -> str:
        """The part of the answer that is known with this piece."""
        if self._answering:
            return self._answer(piece)
        self._held += piece
        start = self._held.lstrip()
        if not start.startswith(_OPENS[: len(start)]):
            self._answering, held, self._held = True, self._held, ""
            return held
        head, closed, rest = start.partition(_CLOSES)
        if not closed or not head.startswith(_OPENS):
            return ""
        self.thinking = head.removeprefix(_OPENS).strip()
        self._answering = self._is_after_block = True
        self._held = ""
        return self._answer(rest)

    def end(self, *, cut: bool) -> str:
        """The text that was held back. A block that the limit of the answer `cut` off is reasoning, any other text is
        the answer.
        """
        held, self._held = self._held, ""
        if cut and held.lstrip().startswith(_OPENS):
            self.thinking, held = held.lstrip().removeprefix(_OPENS).strip(), ""
        return held

    def _answer(self, piece: str) -> str:
        if self._is_after_block:  # white space between the block and the answer belongs to neither
            piece = piece.lstrip()
            self._is_after_block = not piece
        return piece
