"""Which tokens of a conversation the loss is on, and the proof that they are what the assistant writes."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tuneport_torch.text.refusals import OTHER_TEMPLATE, Unrenderable, no_end
from tuneport_torch.text.thinking import split_turn
from tuneport_torch.text.turns import assistant_turns

if TYPE_CHECKING:
    from tuneport import Conversation, Message
    from tuneport_torch.text.tokens import Text, Tokens

_CACHED_OPENINGS = 10_000
Span = tuple[int, float, int, int]
"""A message, its weight, and the characters [start, end) of what the assistant writes."""


class LossMask:
    """Weighs the tokens of conversations that one template wrote.

    Where the assistant writes is taken from the template's generation tags, or else proven: the text of `messages[:i]`
    that asks for an answer is a prefix of the text of `messages[:i + 1]`, and that of the whole. `text.stop_ids` gains
    the template's end of turn where that is missing.
    """

    def __init__(self, text: Text) -> None:
        self.text = text
        self._openings: dict[str, list[int]] = {}

    def weigh(self, example: Conversation, answer: Mapping[str, Any], tokens: Tokens) -> tuple[list[float], int]:
        """The weight of each token, and how many assistant turns had to be left out. Raises Unrenderable."""
        self._check_tools(example, answer["text"])
        spans, left_out = _trained_spans(example, answer)
        spans, bare = self._with_thinking(example, answer["text"], spans)
        left_out += bare
        weights = [0.0] * len(tokens.ids)
        for turn, weight, start, end in spans:
            _check_content(example.messages[turn], self.text.quote, answer["text"][start:end])
            first = self._opening(answer["text"], tokens, start)
            last = self._end_of_turn(answer["text"], tokens, first, end, tagged="tagged" in answer)
            if tokens.ids[last - 1] in self._inner_ids and turn + 1 < len(example.messages):
                left_out += 1  # this token ends a thinking block too, so the model could not be stopped by it
                continue
            weights[first:last] = [weight] * (last - first)
        if not any(weights):
            raise Unrenderable(
                "nothing-to-train",
                "No token of this row carries a loss.",
                "Give it an assistant turn, last in the row, whose weight is not 0.",
            )
        return weights, left_out

    @cached_property
    def _inner_ids(self) -> frozenset[int]:
        """Control tokens that stand between thinking and answer, and so end no answer."""
        thinking = self.text.thinking
        return frozenset(one for _, _, one in self.text.marks_in(thinking.closes)) if thinking else frozenset()

    def _with_thinking(self, example: Conversation, text: str, spans: list[Span]) -> tuple[list[Span], int]:
        """The turns whose thinking is written where they are trained on, and how many others there are."""
        kept = []
        for span in spans:
            turn, _, start, end = span
            thought, _ = split_turn(example.messages[turn], self.text.thinking)
            if not thought or self.text.quote(thought.strip()) in text[start:end]:
                kept.append(span)
            elif turn + 1 == len(example.messages):
                raise Unrenderable(
                    "reasoning-lost",
                    f"The model's chat template does not write what the assistant thought in message {turn}.",
                    "Write it into the content yourself, remove it, or choose a base model that thinks there.",
                )
        return kept, len(spans) - len(kept)

    def _opening(self, text: str, tokens: Tokens, start: int) -> int:
        """The first token that the assistant writes; proven to follow the very tokens with which the model is asked.

        Text before a control token does not change how the text after it is tokenised, so it is enough to compare from
        the last control token on, which is nearly always the same few characters.
        """
        first = bisect.bisect_left(tokens.spans, (start, 0))
        near = first - 1
        while near > 0 and tokens.ids[near] not in self.text.control_ids:
            near -= 1
        asked = text[tokens.spans[near][0] if near > 0 else 0 : start]
        ids = self._openings.get(asked)
        if ids is None:
            if len(self._openings) >= _CACHED_OPENINGS:
                self._openings.clear()
            ids = self._openings[asked] = self.text.encode(asked).ids
        if ids != tokens.ids[max(near, 0) : first]:
            raise Unrenderable(
                "token-straddles",
                "The answer's first token begins in the text before it, so in use the model would be asked otherwise.",
                f"Take white space away from the beginning of the answer. {OTHER_TEMPLATE}",
            )
        return first

    def _end_of_turn(self, text: str, tokens: Tokens, first: int, end: int, *, tagged: bool) -> int:
        """One past the token that ends the turn. What the template writes after it, the model need not."""
        last = bisect.bisect_left(tokens.spans, (end, 0))
        if last > first and tokens.spans[last - 1][1] > end:
            raise Unrenderable(
                "token-straddles", "The answer's last token goes on into what follows it.", OTHER_TEMPLATE
            )
        if tagged and last < len(tokens.ids) and not self._ends(tokens.ids[first:last]):
            # Some templates close the generation tag before their end of turn. Left out, the model would never stop.
            if tokens.ids[last] not in self.text.stop_ids:
                raise no_end("the template's generation tag does not hold it")
            return last + 1
        at = last - 1
        while at >= first and tokens.ids[at] not in self.text.control_ids and tokens.ids[at] not in self.text.stop_ids:
            at -= 1
        if at < first or text[tokens.spans[at][1] : end].strip():
            raise no_end("the template ends a turn with plain text")
        if tokens.ids[at] not in self.text.stop_ids and tokens.ids[at] not in self._inner_ids:
            self.text.stop_ids.append(tokens.ids[at])
        return at + 1

    def _ends(self, ids: Sequence[int]) -> bool:
        return any(one in self.text.stop_ids or one in self.text.control_ids for one in ids[-2:])

    def _check_tools(self, example: Conversation, text: str) -> None:
        """A template that knows no tools leaves them out without a word."""
        named = [tool.get("function", tool) for tool in example.tools]
        named += [call.get("function", {}) for message in example.messages for call in message.tool_calls or ()]
        for one in named:
            name = one.get("name")
            if isinstance(name, str) and self.text.quote(name) not in text:
                raise Unrenderable(
                    "tools-ignored",
                    f"The model's chat template does not write tools: {name!r} is nowhere in what the model would see.",
                    "Choose a base model whose template knows tools, or write the calls as text.",
                )


def _trained_spans(example: Conversation, answer: Mapping[str, Any]) -> tuple[list[Span], int]:
    """(message, weight, start, end) of what the loss is on, in characters, and how many turns had to be left out."""
    turns = assistant_turns(example)
    found: list[Any] = answer.get("tagged") or answer.get("turns") or []
    if len(found) != len(turns):
        raise Unrenderable(
            "mask-unproven",
            f"The template marks {len(found)} assistant turns where the row has {len(turns)}.",
            "Join assistant turns that follow one another into one.",
        )
    spans, reasons = [], []
    for turn, place in zip(turns, found, strict=True):
        weight = example.messages[turn].weight
        weight = 1.0 if weight is None else float(weight)
        if weight == 0:
            continue
        if isinstance(place, str):
            reasons.append((turn, place))
        else:
            spans.append((turn, weight, *place))
    if reasons and (not spans or spans[-1][0] != turns[-1]):
        turn, why = reasons[-1]
        raise Unrenderable(
            "mask-unproven",
            f"What the assistant writes in message {turn} cannot be told from the rest: {why}.",
            "End the row with the turn to be trained on, or choose a base model with another template.",
        )
    return spans, len(reasons)


def _check_content(message: Message, quote: Any, span: str) -> None:
    """What is trained on holds what the row says; templates may move thinking and trim, but lose nothing else."""
    said = [message.text.rpartition("</think>")[2].strip()]
    said += [str(call.get("function", {}).get("name", "")) for call in message.tool_calls or ()]
    if any(quote(one) not in span for one in said):
        raise Unrenderable(
            "content-lost",
            "The template does not write the assistant's whole answer, so what is trained on is not what the row says.",
            OTHER_TEMPLATE,
        )
