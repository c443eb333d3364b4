"""Finds the thinking block before an answer while the answer is generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuneport_torch.answer.decoding import IncrementalDecoder, unsafe_end

if TYPE_CHECKING:
    from tuneport_torch.text.codec import Codec
    from tuneport_torch.text.grammar import Block
    from tuneport_torch.text.thinking import Thinking

_TAIL = 32  # tokens: the end of a prompt, which may open a block


class ThinkingBlock:
    """Follows the tokens of an answer through a thinking block in the form of the model's template.

    `over` is set when the answer itself has started, after the first `size` tokens. `rest` is the text of the last of
    them after the end of the block. `opened`: the prompt opened the block; `closed`: it contains a complete one.
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
        self._decoder = IncrementalDecoder(codec, keep_control=True)
        self._call = _call_start(codec, thinking)
        self._window = max(len(one.encode()) for one in (thinking.closes, thinking.before_call)) + 4

    @property
    def block(self) -> Block:
        """For the grammar: whether a block may come, or continues from the prompt."""
        return "opened" if self.opened else "none" if self.closed else "allowed"

    def add(self, ids: Sequence[int]) -> bool:
        """Process the tokens with a new last one; whether it ends the block, or what comes before the answer."""
        if self.over:
            return False
        if not self._inside:
            return self._start(ids)
        if not self.thinking.closes:
            return False
        text = self._codec.decode(ids[-self._window :], keep_control=True)
        closing = self._find_end(text)
        if closing is None:
            return False
        self._end(len(ids), text[closing:])
        return True

    def safe_text(self, ids: Sequence[int]) -> str:
        """The thinking that is certain so far; more may come."""
        if not self._inside and not self.size:
            return ""
        if self.over:
            if self._all is None:
                self._all = self._thinking(ids[: self.size]) or ""
            return self._all
        text = self._decoder.text(ids).lstrip()
        text = text if self.opened else text.removeprefix(self.thinking.opens)
        ends = [one for one in (self.thinking.closes, self.thinking.before_call) if one]
        return text[: len(text) - unsafe_end(text, ends)].strip()

    def split(self, ids: Sequence[int], *, cut: bool, keep_control: bool = False) -> tuple[str | None, str]:
        """The thinking, if any, and the answer. `cut`: the answer ended at its limit."""
        if self.over:
            answer = self.rest + self._codec.decode(ids[self.size :], keep_control=keep_control)
            return (self._thinking(ids[: self.size]), answer.lstrip()) if self.size else (None, answer)
        if self._inside and (cut or not self.opened):
            return self._thinking(ids), ""
        # The prompt opened a block, and the model answered without closing it, as it may have been trained to.
        return None, self._codec.decode(ids, keep_control=keep_control)

    def _start(self, ids: Sequence[int]) -> bool:
        opens, lead = self.thinking.opens, self.thinking.lead
        text = self._codec.decode(ids, keep_control=True).lstrip()
        if opens and text.startswith(opens):
            self._inside = True
            return False
        if lead and text.startswith(lead):
            self._end(len(ids), text[len(lead) :])
            return True
        # Half a character, or the start of a tag: more tokens are needed.
        if not text or text.endswith("\ufffd") or any(one.startswith(text) for one in (opens, lead) if one):
            return False
        self.over = True
        return False

    def _end(self, size: int, rest: str) -> None:
        self.over, self.size, self.rest = True, size, rest

    def _thinking(self, ids: Sequence[int]) -> str | None:
        text = self._codec.decode(ids, keep_control=True).lstrip()
        if not self.opened and self.thinking.lead and text.startswith(self.thinking.lead):
            return None
        if not self.opened:
            text = text.removeprefix(self.thinking.opens)
        for end in filter(None, (self.thinking.closes, self.thinking.before_call)):
            text = text.partition(end)[0]
        return text.strip()

    def _find_end(self, text: str) -> int | None:
        """Where the answer starts after the end of the block, if the text contains that end."""
        closes, before_call = self.thinking.closes, self.thinking.before_call
        if closes in text:
            return text.rindex(closes) + len(closes)
        start = text.find(before_call) if before_call and self._call else -1
        if start < 0 or closes.startswith(text[start:]):  # it may continue as the end of the block
            return None
        return start + len(before_call) - len(self._call)


def _call_start(codec: Codec, thinking: Thinking) -> str:
    """The part of `before_call` that belongs to the call."""
    first = codec.calls.first if thinking.before_call and codec.calls is not None else ""
    start = thinking.before_call.rfind(first) if first else -1
    if start < 0:
        return ""
    return thinking.before_call[start - (thinking.before_call[:start].endswith(" ")) :]
