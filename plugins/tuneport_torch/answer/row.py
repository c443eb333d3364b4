"""One answer while it is made: its tokens, why it ended, what may be shown of it, and what it may say next."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from tuneport.errors import TuneportError
from tuneport.plugin import AnswerPiece, CallPiece, GenerateOptions, Reply, TokenLogprob
from tuneport_torch.answer.calls import CallReader, Function
from tuneport_torch.answer.growing import Growing, unsafe_end
from tuneport_torch.answer.thought import Thought
from tuneport_torch.text.constraints import Constraints

if TYPE_CHECKING:
    from torch import Tensor

    from tuneport_torch.text.codec import Codec

Ranked = tuple[float, list[tuple[int, float]]]
"""The log-probability of a token that was chosen, and the likeliest tokens at its place with theirs."""


class Row:
    """An answer that grows by one token at a time. `reason` is empty until it ends; `error` says why it could not."""

    def __init__(self, codec: Codec, prompt: list[int], limit: int, options: GenerateOptions) -> None:
        self.prompt, self.options = prompt, options
        self.reason = ""
        self.error: TuneportError | None = None
        self._thought = Thought(codec, prompt) if codec.thinking is not None and not options.raw else None
        self.constraint = (
            codec.companion(Constraints).of(options, self._thought.block if self._thought else "none")
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
        # As many last tokens as can hold a stop text, at worst a byte each.
        self._window = 4 + max((len(stop.encode()) for stop in texts), default=0)
        self._ids: list[int] = []
        self._spent = 0
        self._growing = Growing(codec, keep_control=self._keep)
        self._shown = self._thought_shown = 0
        self._sent: list[int] = []  # characters of each call's arguments that were shown
        self._ranks_sent = self._rank_bytes = 0
        self._generator: torch.Generator | None = None
        self._drawn: float | None = None

    @property
    def tokens(self) -> list[int]:
        """The prompt and the answer so far."""
        return [*self.prompt, *self._ids]

    @property
    def most(self) -> int:
        """Tokens that prompt and answer may have together."""
        return len(self.prompt) + self._limit

    @property
    def over(self) -> bool:
        """Whether nothing more is to come."""
        return bool(self.reason) or self.error is not None

    def draw(self) -> float:
        """The random number for the next token, of the answer's own sequence: the same in any batch, and the same again
        where memory ran out before the token was added.
        """
        if self._generator is None:
            seed = self.options.seed if self.options.seed is not None else secrets.randbits(62)
            self._generator = torch.Generator().manual_seed(seed % 2**63)
        if self._drawn is None:
            self._drawn = torch.rand((), generator=self._generator, dtype=torch.float32).item()
        return self._drawn

    def penalize(self, logits_V: Tensor) -> None:
        """Lower the logits of the tokens that the answer holds already, in place."""
        if not self.counts:
            return
        ids_N = torch.tensor(list(self.counts), device=logits_V.device)
        counts_N = torch.tensor(list(self.counts.values()), device=logits_V.device, dtype=logits_V.dtype)
        logits_V[ids_N] -= counts_N * self.options.frequency_penalty + self.options.presence_penalty

    def fail(self, error: TuneportError) -> None:
        """End without an answer."""
        self.error = error

    def add(self, token: int) -> None:
        """Take the next token in."""
        if self.error is not None:
            return
        self._spent += 1
        self._drawn = None
        if token in self._codec.stop_ids:
            self.reason = "stop"
            return
        self._ids.append(token)
        self.counts[token] += 1
        if self._thought is not None and self._thought.add(self._ids):
            self._growing = Growing(
                self._codec, keep_control=self._keep, start=self._thought.size, said=self._thought.rest
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
        if self._stopped():
            self.reason = "stop"
        elif len(self._ids) >= self._limit:
            self.reason = "length"

    def piece(self) -> AnswerPiece:
        """What may be shown and was not yet; all that is left once the answer has ended."""
        thinking = self._new_thinking()
        said, calls = self._showable()
        text, self._shown = said[self._shown :], max(self._shown, len(said))
        pieces = []
        for index, (name, arguments) in enumerate(calls):
            if index == len(self._sent):
                self._sent.append(0)
                pieces.append(CallPiece(index=index, name=name, arguments=arguments))
            elif len(arguments) > self._sent[index]:
                pieces.append(CallPiece(index=index, arguments=arguments[self._sent[index] :]))
            self._sent[index] = len(arguments)
        logprobs = () if self.options.logprobs is None else self._new_logprobs(None if calls else said)
        return AnswerPiece(text=text, thinking=thinking, calls=tuple(pieces), logprobs=logprobs)

    def reply(self) -> Reply:
        """The whole answer."""
        thinking, said = self._whole()
        rest, calls = self._read(said)
        if self._one_call:
            calls = calls[:1]
        return Reply(
            text=rest,
            # A call that was shown and then cut is no call to make.
            finish_reason="tool_calls" if calls and len(self._sent) <= len(calls) else self.reason,
            prompt_tokens=len(self.prompt),
            completion_tokens=self._spent,
            tool_calls=calls,
            logprobs=None if self.options.logprobs is None else tuple(self._logprobs(rest if not calls else None)),
            thinking=thinking,
        )

    def _read(self, said: str) -> tuple[str, tuple[Mapping[str, Any], ...]]:
        """The text of an answer, and its calls."""
        if self._calls is None:
            return said, ()
        kept = self._whole(keep_control=True)[1] if self._keep else said
        return self._calls.read(kept) or (said, ())

    def _new_thinking(self) -> str:
        """The thinking that may be shown and was not yet."""
        if self._thought is None:
            return ""
        said = (self._whole()[0] or "") if self.reason else self._thought.shown(self._ids)
        new, self._thought_shown = said[self._thought_shown :], max(self._thought_shown, len(said))
        return new

    def _showable(self) -> tuple[str, list[Function]]:
        """The text that may be shown so far, and the calls: their names and the text of their arguments."""
        if self.reason:
            said = self._whole()[1]
            reply = self.reply()
            if reply.tool_calls or not self._sent:
                made = [call["function"] for call in reply.tool_calls]
                return reply.text, [(one["name"], one["arguments"]) for one in made]
            return said[: self._shown], self._begun(said)  # what was shown as a call is not shown as text too
        if self._thought is not None and not self._thought.over:
            return "", []
        said = self._growing.said(self._ids)
        said = said.lstrip() if self._behind else said
        said = said[: len(said) - unsafe_end(said, self.options.stop)]
        return (said, []) if self._calls is None else (self._calls.shown(said), self._begun(said))

    def _begun(self, said: str) -> list[Function]:
        begun = self._calls.begun(said) if self._calls is not None else []
        return begun[:1] if self._one_call else begun

    @property
    def _behind(self) -> bool:
        """Whether the answer stands behind a thinking block, and not at the start of what is said."""
        return self._thought is not None and self._thought.over and self._thought.size > 0

    def _stopped(self) -> bool:
        """Whether the last tokens bring a stop text, or the end of the one call that was asked for."""
        if not self.options.stop and not self._one_call:
            return False
        if self._thought is not None and not self._thought.over:
            return False
        start = self._thought.size if self._thought is not None else 0
        said = self._codec.decode(self._ids[max(start, len(self._ids) - self._window) :], keep_control=self._keep)
        return _first_stop(said, self.options.stop) is not None or bool(self._closes and self._closes in said)

    def _whole(self, *, keep_control: bool = False) -> tuple[str | None, str]:
        """The thinking, and the answer behind it."""
        thinking, said = None, ""
        if self._thought is None:
            said = self._codec.decode(self._ids, keep_control=keep_control)
        else:
            cut = self.reason == "length"
            thinking, said = self._thought.split(self._ids, cut=cut, keep_control=keep_control)
        said = said[: _first_stop(said, self.options.stop)]
        # JSON that the limit cuts within a character is shown without it: it is how a valid answer begins.
        return thinking, said.rstrip("\ufffd") if self.reason == "length" and self.constraint is not None else said

    def _new_logprobs(self, said: str | None) -> tuple[TokenLogprob, ...]:
        """Those that were not sent yet of the tokens in the text."""
        if said == "":
            return ()
        left = None if said is None else len(said.encode("utf-8", "replace")) - self._rank_bytes
        told = tuple(self._ranked(self._ranks_sent or self._first_said(), left))
        if told:
            self._ranks_sent = (self._ranks_sent or self._first_said()) + len(told)
            self._rank_bytes += sum(len(one.bytes) for one in told)
        return told

    def _logprobs(self, said: str | None) -> Iterator[TokenLogprob]:
        """Those of the tokens that are in the text; of all tokens where `said` is None, as for the call of a tool."""
        return self._ranked(self._first_said(), None if said is None else len(said.encode("utf-8", "replace")))

    def _ranked(self, start: int, left: int | None) -> Iterator[TokenLogprob]:
        """The log-probabilities from that token on, of tokens that begin in the next `left` bytes."""
        for token, (logprob, top) in zip(self._ids[start:], self.ranked[start:], strict=False):
            if left is not None and left <= 0:
                return
            one = self._logprob(token, logprob, tuple(self._logprob(*other) for other in top))
            left = None if left is None else left - len(one.bytes)
            yield one

    def _first_said(self) -> int:
        """The first token of the answer behind a thinking block; white space between them is neither's."""
        if self._thought is None or not self._behind:
            return 0
        start = self._thought.size
        while start < len(self._ids) and not self._codec.token_bytes(self._ids[start]).strip():
            start += 1
        return start

    def _logprob(self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        raw = self._codec.token_bytes(token)
        return TokenLogprob(token=raw.decode("utf-8", "replace"), bytes=raw, logprob=logprob, top=top)


def tell(row: Row) -> Iterator[AnswerPiece | Reply | TuneportError]:
    """What a row that has grown brings: a piece, and at its end the reply, or the error."""
    if row.error is not None:
        yield row.error
        return
    piece = row.piece()
    if piece:
        yield piece
    if row.reason:
        yield row.reply()


def _first_stop(said: str, stops: Sequence[str]) -> int | None:
    places = [place for stop in stops if stop and (place := said.find(stop)) >= 0]
    return min(places, default=None)
