"""The text of tokens that come one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuneport_torch.text.codec import Codec


class Growing:
    """Decodes a growing list of tokens from the token `start` on, behind the text `said`. The text of a token depends
    on the one before it, not on all: decoding stays as cheap as it began.
    """

    def __init__(self, codec: Codec, *, keep_control: bool, start: int = 0, said: str = "") -> None:
        self._codec, self._keep_control = codec, keep_control
        self._said = said
        self._context = self._read = start

    def said(self, ids: Sequence[int]) -> str:
        """The text so far, up to a character that is still incomplete."""
        if self._read == len(ids):
            return self._said
        before = self._codec.decode(ids[self._context : self._read], keep_control=self._keep_control)
        now = self._codec.decode(ids[self._context :], keep_control=self._keep_control)
        if not now.endswith("\ufffd"):
            self._said += now[len(before) :]
            self._context, self._read = self._read, len(ids)
        return self._said


def unsafe_end(said: str, ends: Sequence[str]) -> int:
    """How many last characters of a text may be the beginning of one of those texts."""
    unsafe = 0
    for end in ends:
        for size in range(min(len(end), len(said)), unsafe, -1):
            if said.endswith(end[:size]):
                unsafe = size
                break
    return unsafe
