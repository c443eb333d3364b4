"""The thinking block before an answer, found while the answer is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneport_torch.answer.growing import Growing, unsafe_end

if TYPE_CHECKING:
    from tuneport_torch.text.codec import Codec
    from tuneport_torch.text.constraints import Block
    from tuneport_torch.text.thinking import Thinking

_TAIL = 32  # tokens: the end of a prompt, which may open a block


class Thought:
    """Follows the tokens of an answer through a thinking block, as the model's template knows it.

    `over` once the answer itself has begun, behind the first `size` tokens. `rest` is what the last of these says
    beyond the end of the block. `opened`: the prompt opened the block; `closed`: it holds a whole one.
    """

    def __init__(self, codec: Codec, prompt: Sequence[int]) -> None:
        thinking = codec.thinking
        assert thinking is not None
        self.thinking = thinking
        tail = codec.decode(prompt[-_TAIL:], keep_control=True).rstrip()
        self.opened = thinking.is_opened_by(tail)
        self.closed = bool(thinking.closes) and tail.endswith(thinking.closes)
        self.over = False
        self.size = 0
        self.rest = ""
        self._all: str | None = None
        self._inside = self.opened
        self._codec = codec
        self._growing = Growing(codec, keep_control=True)
        self._call = _call_behind(codec, thinking)
        self._window = max(len(one.encode()) for one in (thinking.closes, thinking.before_call)) + 4

    @property
    def block(self) -> Block:
        """What a grammar has to know: whether a block may come, or goes on from the prompt."""
        return "opened" if self.opened else "none" if self.closed else "allowed"

    def add(self, ids: Sequence[int]) -> bool:
        """Look at the tokens with the newest one; whether that ends the block, or what stood before the answer."""
        if self.over:
            return False
        if not self._inside:
            return self._begin(ids)
        if not self.thinking.closes:
            return False
        said = self._codec.decode(ids[-self._window :], keep_control=True)
        closing = self._closing(said)
        if closing is None:
            return False
        self._end(len(ids), said[closing:])
        return True

    def shown(self, ids: Sequence[int]) -> str:
        """The thinking that is certain so far, while more may come."""
        if not self._inside and not self.size:
            return ""
        if self.over:
            if self._all is None:
                self._all = self._thinking(ids[: self.size]) or ""
            return self._all
        said = self._growing.said(ids).lstrip()
        said = said if self.opened else said.removeprefix(self.thinking.opens)
        ends = [one for one in (self.thinking.closes, self.thinking.before_call) if one]
        return said[: len(said) - unsafe_end(said, ends)].strip()

    def split(self, ids: Sequence[int], *, cut: bool, keep_control: bool = False) -> tuple[str | None, str]:
        """The thinking, if there is any, and the answer. `cut`: the answer ended at its limit."""
        if self.over:
            answer = self.rest + self._codec.decode(ids[self.size :], keep_control=keep_control)
            return (self._thinking(ids[: self.size]), answer.lstrip()) if self.size else (None, answer)
        if self._inside and (cut or not self.opened):
            return self._thinking(ids), ""
        # The prompt opened a block and the model answered without closing it, as one may have been trained to.
        return None, self._codec.decode(ids, keep_control=keep_control)

    def _begin(self, ids: Sequence[int]) -> bool:
        opens, lead = self.thinking.opens, self.thinking.lead
        said = self._codec.decode(ids, keep_control=True).lstrip()
        if opens and said.startswith(opens):
            self._inside = True
            return False
        if lead and said.startswith(lead):
            self._end(len(ids), said[len(lead) :])
            return True
        # Half a character, or the beginning of a tag: more must come.
        if not said or said.endswith("\ufffd") or any(one.startswith(said) for one in (opens, lead) if one):
            return False
        self.over = True
        return False

    def _end(self, size: int, rest: str) -> None:
        self.over, self.size, self.rest = True, size, rest

    def _thinking(self, ids: Sequence[int]) -> str | None:
        said = self._codec.decode(ids, keep_control=True).lstrip()
        if not self.opened and self.thinking.lead and said.startswith(self.thinking.lead):
            return None
        if not self.opened:
            said = said.removeprefix(self.thinking.opens)
        for end in filter(None, (self.thinking.closes, self.thinking.before_call)):
            said = said.partition(end)[0]
        return said.strip()

    def _closing(self, said: str) -> int | None:
        """Where the answer begins behind the end of the block, if that is in the text."""
        closes, before_call = self.thinking.closes, self.thinking.before_call
        if closes in said:
            return said.rindex(closes) + len(closes)
        start = said.find(before_call) if before_call and self._call else -1
        if start < 0 or closes.startswith(said[start:]):  # it may go on as the end before an answer
            return None
        return start + len(before_call) - len(self._call)


def _call_behind(codec: Codec, thinking: Thinking) -> str:
    """What of `before_call` already belongs to the call."""
    first = codec.calls.first if thinking.before_call and codec.calls is not None else ""
    start = thinking.before_call.rfind(first) if first else -1
    if start < 0:
        return ""
    return thinking.before_call[start - (thinking.before_call[:start].endswith(" ")) :]
