"""One answer during generation: its tokens, why it ended, what may be shown, and which tokens may come next."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from tuneport.errors import TuneportError
from tuneport.plugin import AnswerPiece, CallPiece, GenerateOptions, Reply, TokenLogprob
from tuneport_torch.answer.calls import CallReader, Function
from tuneport_torch.answer.decoding import IncrementalDecoder, unsafe_end
from tuneport_torch.answer.thinking_block import ThinkingBlock
from tuneport_torch.text.constraints import Constraints

if TYPE_CHECKING:
    from torch import Tensor

    from tuneport_torch.text.codec import Codec

Ranked = tuple[float, list[tuple[int, float]]]
"""The log-probability of a chosen token, and the likeliest tokens at its place with theirs."""


class AnswerRow:
    """An answer that grows by one token at a time. `reason` is empty until it ends; `error` is set if it fails."""

    def __init__(self, codec: Codec, prompt: list[int], limit: int, options: GenerateOptions) -> None:
        self.prompt, self.options = prompt, options
        self.reason = ""
        self.error: TuneportError | None = None
        self._thinking_block = ThinkingBlock(codec, prompt) if codec.thinking is not None and not options.raw else None
        self.constraint = (
            codec.companion(Constraints).of(options, self._thinking_block.block if self._thinking_block else "none")
            if options.schema is not None or options.tools
            else None
        )
        self.counts: Counter[int] = Counter()
        self.ranked: list[Ranked] = []
        self._codec, self._limit = codec, limit
        self._one_call = bool(options.tools) and not options.parallel_tool_calls
        self._calls = CallReader(codec, options) if options.tools else None
        self._keep = self._calls is not None and self._calls.keeps_control
        self._closes = self._calls.close if self._calls is not None and self._one_call else ""
        texts = [*options.stop, self._closes]
        # As many last tokens as a stop text can have, at worst a byte each.
        self._window = 4 + max((len(stop.encode()) for stop in texts), default=0)
        self._ids: list[int] = []
        self._generated = 0
        self._decoder = IncrementalDecoder(codec, keep_control=self._keep)
        self._text_sent = self._thinking_sent = 0
        self._arguments_sent: list[int] = []  # characters of each call's arguments that were sent
        self._ranks_sent = self._rank_bytes = 0
        self._generator: torch.Generator | None = None
        self._drawn: float | None = None

    @property
    def tokens(self) -> list[int]:
        """The prompt and the answer so far."""
        return [*self.prompt, *self._ids]

    @property
    def most(self) -> int:
        """The maximum number of tokens of prompt and answer together."""
        return len(self.prompt) + self._limit

    @property
    def is_over(self) -> bool:
        """Whether the answer is finished or failed."""
        return bool(self.reason) or self.error is not None

    def draw(self) -> float:
        """The random number for the next token, from the answer's own sequence: the same in any batch, and the same
        again if memory ran out before the token was added.
        """
        if self._generator is None:
            seed = self.options.seed if self.options.seed is not None else secrets.randbits(62)
            self._generator = torch.Generator().manual_seed(seed % 2**63)
        if self._drawn is None:
            self._drawn = torch.rand((), generator=self._generator, dtype=torch.float32).item()
        return self._drawn

    def penalize(self, logits_V: Tensor) -> None:
        """Lower the logits of tokens that are already in the answer, in place."""
        if not self.counts:
            return
        ids_N = torch.tensor(list(self.counts), device=logits_V.device)
        counts_N = torch.tensor(list(self.counts.values()), device=logits_V.device, dtype=logits_V.dtype)
        logits_V[ids_N] -= counts_N * self.options.frequency_penalty + self.options.presence_penalty

    def fail(self, error: TuneportError) -> None:
        """End the row with an error."""
        self.error = error

    def add(self, token: int) -> None:
        """Add the next token."""
        if self.error is not None:
            return
        self._generated += 1
        self._drawn = None
        if token in self._codec.stop_ids:
            self.reason = "stop"
            return
        self._ids.append(token)
        self.counts[token] += 1
        if self._thinking_block is not None and self._thinking_block.add(self._ids):
            self._decoder = IncrementalDecoder(
                self._codec, keep_control=self._keep, start=self._thinking_block.size, before=self._thinking_block.rest
            )
        if self.constraint is not None:
            try:
                self.constraint.add(token)
            except TuneportError as error:
                self.fail(error)
                return
            if self.constraint.over:
                self.reason = "stop"
                return
        if self._must_stop():
            self.reason = "stop"
        elif len(self._ids) >= self._limit:
            self.reason = "length"

    def piece(self) -> AnswerPiece:
        """What may be shown and was not sent yet; everything that is left if the answer has ended."""
        thinking = self._new_thinking()
        answer_text, calls = self._showable()
        text, self._text_sent = answer_text[self._text_sent :], max(self._text_sent, len(answer_text))
        pieces = []
        for index, (name, arguments) in enumerate(calls):
            if index == len(self._arguments_sent):
                self._arguments_sent.append(0)
                pieces.append(CallPiece(index=index, name=name, arguments=arguments))
            elif len(arguments) > self._arguments_sent[index]:
                pieces.append(CallPiece(index=index, arguments=arguments[self._arguments_sent[index] :]))
            self._arguments_sent[index] = len(arguments)
        logprobs = () if self.options.logprobs is None else self._new_logprobs(None if calls else answer_text)
        return AnswerPiece(text=text, thinking=thinking, calls=tuple(pieces), logprobs=logprobs)

    def reply(self) -> Reply:
        """The complete answer."""
        thinking, text = self._thinking_and_text()
        rest, calls = self._read(text)
        if self._one_call:
            calls = calls[:1]
        return Reply(
            text=rest,
            # A call that was sent and then cut off must not be made.
            finish_reason="tool_calls" if calls and len(self._arguments_sent) <= len(calls) else self.reason,
            prompt_tokens=len(self.prompt),
            completion_tokens=self._generated,
            tool_calls=calls,
            logprobs=None if self.options.logprobs is None else tuple(self._logprobs(rest if not calls else None)),
            thinking=thinking,
        )

    def _read(self, text: str) -> tuple[str, tuple[Mapping[str, Any], ...]]:
        """The text of an answer, and its calls."""
        if self._calls is None:
            return text, ()
        kept = self._thinking_and_text(keep_control=True)[1] if self._keep else text
        return self._calls.read(kept) or (text, ())

    def _new_thinking(self) -> str:
        """The thinking that may be shown and was not sent yet."""
        if self._thinking_block is None:
            return ""
        text = (self._thinking_and_text()[0] or "") if self.reason else self._thinking_block.safe_text(self._ids)
        new, self._thinking_sent = text[self._thinking_sent :], max(self._thinking_sent, len(text))
        return new

    def _showable(self) -> tuple[str, list[Function]]:
        """The text that may be shown so far, and the calls with their names and the text of their arguments."""
        if self.reason:
            text = self._thinking_and_text()[1]
            reply = self.reply()
            if reply.tool_calls or not self._arguments_sent:
                made = [call["function"] for call in reply.tool_calls]
                return reply.text, [(one["name"], one["arguments"]) for one in made]
            return text[: self._text_sent], self._growing_calls(text)  # what was sent as a call is not also text
        if self._thinking_block is not None and not self._thinking_block.over:
            return "", []
        text = self._decoder.text(self._ids)
        text = text.lstrip() if self._is_after_thinking else text
        text = text[: len(text) - unsafe_end(text, self.options.stop)]
        return (text, []) if self._calls is None else (self._calls.safe_text(text), self._growing_calls(text))

    def _growing_calls(self, text: str) -> list[Function]:
        calls = self._calls.read_growing(text) if self._calls is not None else []
        return calls[:1] if self._one_call else calls

    @property
    def _is_after_thinking(self) -> bool:
        """Whether the answer comes after a thinking block."""
        return self._thinking_block is not None and self._thinking_block.over and self._thinking_block.size > 0

    def _must_stop(self) -> bool:
        """Whether the last tokens contain a stop text, or the end of the only call that is allowed."""
        if not self.options.stop and not self._one_call:
            return False
        if self._thinking_block is not None and not self._thinking_block.over:
            return False
        start = self._thinking_block.size if self._thinking_block is not None else 0
        text = self._codec.decode(self._ids[max(start, len(self._ids) - self._window) :], keep_control=self._keep)
        return _first_stop(text, self.options.stop) is not None or bool(self._closes and self._closes in text)

    def _thinking_and_text(self, *, keep_control: bool = False) -> tuple[str | None, str]:
        """The thinking, and the answer after it."""
        thinking, text = None, ""
        if self._thinking_block is None:
            text = self._codec.decode(self._ids, keep_control=keep_control)
        else:
            cut = self.reason == "length"
            thinking, text = self._thinking_block.split(self._ids, cut=cut, keep_control=keep_control)
        text = text[: _first_stop(text, self.options.stop)]
        # JSON that is cut within a character is shown without it, so that it is the start of a valid answer.
        return thinking, text.rstrip("\ufffd") if self.reason == "length" and self.constraint is not None else text

    def _new_logprobs(self, text: str | None) -> tuple[TokenLogprob, ...]:
        """Those of the tokens in the text that were not sent yet."""
        if text == "":
            return ()
        left = None if text is None else len(text.encode("utf-8", "replace")) - self._rank_bytes
        new = tuple(self._token_logprobs(self._ranks_sent or self._first_answer_token(), left))
        if new:
            self._ranks_sent = (self._ranks_sent or self._first_answer_token()) + len(new)
            self._rank_bytes += sum(len(one.bytes) for one in new)
        return new

    def _logprobs(self, text: str | None) -> Iterator[TokenLogprob]:
        """Those of the tokens in the text; of all tokens if `text` is None, as for tool calls."""
        return self._token_logprobs(
            self._first_answer_token(), None if text is None else len(text.encode("utf-8", "replace"))
        )

    def _token_logprobs(self, start: int, left: int | None) -> Iterator[TokenLogprob]:
        """The log-probabilities of tokens from `start` on that start within the next `left` bytes."""
        for token, (logprob, top) in zip(self._ids[start:], self.ranked[start:], strict=False):
            if left is not None and left <= 0:
                return
            one = self._logprob(token, logprob, tuple(self._logprob(*other) for other in top))
            left = None if left is None else left - len(one.bytes)
            yield one

    def _first_answer_token(self) -> int:
        """The first token of the answer after a thinking block and whitespace."""
        if self._thinking_block is None or not self._is_after_thinking:
            return 0
        start = self._thinking_block.size
        while start < len(self._ids) and not self._codec.token_bytes(self._ids[start]).strip():
            start += 1
        return start

    def _logprob(self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        raw = self._codec.token_bytes(token)
        return TokenLogprob(token=raw.decode("utf-8", "replace"), bytes=raw, logprob=logprob, top=top)


def collect_output(row: AnswerRow) -> Iterator[AnswerPiece | Reply | TuneportError]:
    """The new output of a row: a piece, and at the end the reply, or the error."""
    if row.error is not None:
        yield row.error
        return
    piece = row.piece()
    if piece:
        yield piece
    if row.reason:
        yield row.reply()


def _first_stop(text: str, stops: Sequence[str]) -> int | None:
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return min(places, default=None)
