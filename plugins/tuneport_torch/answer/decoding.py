"""Decodes tokens that arrive one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuneport_torch.text.codec import Codec


class IncrementalDecoder:
    """Decodes a growing list of tokens from the token `start` on, after the text `before`.

    The text of a token depends on the token before it, but not on all tokens, so the cost of decoding does not grow.
    """

    def __init__(self, codec: Codec, *, keep_control: bool, start: int = 0, before: str = "") -> None:
        self._codec, self._keep_control = codec, keep_control
        self._text = before
        self._context = self._read = start

    def text(self, ids: Sequence[int]) -> str:
        """The text so far, without an incomplete character at its end."""
        if self._read == len(ids):
            return self._text
        before = self._codec.decode(ids[self._context : self._read], keep_control=self._keep_control)
        now = self._codec.decode(ids[self._context :], keep_control=self._keep_control)
        if not now.endswith("\ufffd"):
            self._text += now[len(before) :]
            self._context, self._read = self._read, len(ids)
        return self._text


def unsafe_end(text: str, ends: Sequence[str]) -> int:
    """How many last characters of a text may be the start of one of `ends`."""
    unsafe = 0
    for end in ends:
        for size in range(min(len(end), len(text)), unsafe, -1):
            if text.endswith(end[:size]):
                unsafe = size
                break
    return unsafe
