"""What a served model thought before its answer: in a field beside the answer, or as a block at its very start."""

from __future__ import annotations

from typing import Any

FIELDS = ("reasoning_content", "reasoning")
_OPENS, _CLOSES = "<think>", "</think>"


def thought_of(message: Any) -> str | None:
    """The thinking in a message or in a piece of one, where the server has it apart from the answer."""
    given = (getattr(message, name, None) for name in FIELDS)
    return next((one for one in given if isinstance(one, str) and one), None)


class Splitter:
    """Parts a text that comes in pieces into a thinking block at its very start, and the answer behind it."""

    def __init__(self, *, inline: bool) -> None:
        """`inline`: the server may pass on what the model wrote, block included."""
        self._held = ""
        self._answering = not inline
        self._behind = False
        self.thinking: str | None = None

    def feed(self, piece: str) -> str:
        """What of the answer is known once this piece has come."""
        if self._answering:
            return self._answer(piece)
        self._held += piece
        begun = self._held.lstrip()
        if not begun.startswith(_OPENS[: len(begun)]):
            self._answering, held, self._held = True, self._held, ""
            return held
        head, closed, rest = begun.partition(_CLOSES)
        if not closed or not head.startswith(_OPENS):
            return ""
        self.thinking = head.removeprefix(_OPENS).strip()
        self._answering = self._behind = True
        self._held = ""
        return self._answer(rest)

    def end(self, *, cut: bool) -> str:
        """What was held back. A block that the answer's limit `cut` off is thinking; any other is the answer."""
        held, self._held = self._held, ""
        if cut and held.lstrip().startswith(_OPENS):
            self.thinking, held = held.lstrip().removeprefix(_OPENS).strip(), ""
        return held

    def _answer(self, piece: str) -> str:
        if self._behind:  # white space between block and answer is neither's
            piece = piece.lstrip()
            self._behind = not piece
        return piece
