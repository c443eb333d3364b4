"""Finds the tokens of a conversation that are trained on, and proves that the assistant writes them."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tuneport_torch.text.messages import assistant_turns, split_block
from tuneport_torch.text.refusals import (
    OTHER_TEMPLATE,
    Unrenderable,
    answer_not_opened,
    left_out,
    mask_unproven,
    no_end_of_turn,
    thinking_left_out,
    tools_ignored,
)
from tuneport_torch.text.thinking import split_turn

if TYPE_CHECKING:
    from tuneport.plugin import Conversation, Message
    from tuneport_torch.text.codec import Codec, Tokens

_CACHED_OPENINGS = 10_000


class LossMask:
    """Computes the loss weights of the tokens of conversations, for one template.

    The assistant's text is found by the template's generation tags, or else proven: the complete text starts with the
    prompt of `messages[:i]`, and the turn's end is found in it (see sandbox/turn_proof.py).
    `ends` collects the control tokens at ends of turns that are not among `codec.stop_ids`, in order.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.ends: dict[int, None] = {}
        self._openings: dict[str, list[int]] = {}

    def weigh(self, example: Conversation, answer: Mapping[str, Any], tokens: Tokens) -> tuple[list[float], int]:
        """The weight of each token, and the number of assistant turns left out. Raises Unrenderable."""
        self._check_tools(example, answer["text"])
        turns, places = assistant_turns(example), answer.get("tagged") or answer.get("turns") or []
        weights = [0.0] * len(tokens.ids)
        trained: list[int] = []
        reasons: list[tuple[int, str]] = []
        for turn, place in zip(turns, places, strict=True):
            weight = example.messages[turn].weight
            weight = 1.0 if weight is None else float(weight)
            if weight == 0:
                continue
            found = self._place(example, turn, place, answer["text"], tokens)
            if isinstance(found, str):
                reasons.append((turn, found))
                continue
            first, last = found
            weights[first:last] = [weight] * (last - first)
            trained.append(turn)
        if reasons and trained[-1:] != turns[-1:]:
            raise mask_unproven(*reasons[-1], last=reasons[-1][0] + 1 == len(example.messages))
        if not any(weights):
            raise Unrenderable(
                "nothing-to-train",
                "No token of this row would be trained.",
                "End the row with an assistant turn whose weight is not 0.",
            )
        return weights, len(reasons)

    def _place(self, example: Conversation, turn: int, place: Any, text: str, tokens: Tokens) -> tuple[int, int] | str:
        """The tokens [first, last) of one turn with its end, or why they cannot be known. Raises Unrenderable."""
        message, is_last = example.messages[turn], turn + 1 == len(example.messages)
        if isinstance(place, str):
            return place
        if not isinstance(place, Mapping):  # a generation tag
            start, end = place
            first = self._opening(text, tokens, start)
            last = self._end_of_turn(text, tokens, first, end, tagged=True)
        else:
            start = place["start"]
            first = self._opening(text, tokens, start)
            found = self._first_end(text, tokens, first, place)
            if found is None and not is_last:
                return "the template ends this turn differently once others follow it"
            if found is None:
                raise no_end_of_turn("the template writes no control token after an answer")
            last = found
        span = text[start : tokens.spans[last - 1][1]]
        if not is_last and tokens.ids[last - 1] in self._inner_ids:
            return "the template ends this turn with a token that ends thinking too"
        thought, answer = self._thought_and_answer(message)
        if self.codec.quote(thought.strip()) not in span:
            if is_last and message.reasoning_content:
                raise thinking_left_out(turn)
            if not is_last:
                return "the template leaves out its thinking once others follow it"
        _check_content(message, turn, answer, self.codec.quote, span)
        asked = turn == 0 or example.messages[turn - 1].role != "assistant"
        if asked and answer.strip() and self.codec.thinking is None and not message.tool_calls:
            lead = span.partition(self.codec.quote(answer.strip()))[0]
            if self.codec.find_control(lead):
                raise answer_not_opened(lead)
        return first, last

    def _thought_and_answer(self, message: Message) -> tuple[str, str]:
        """The assistant's thinking, and its answer."""
        thought, answer = split_turn(message, self.codec.thinking)
        if thought is not None:
            return thought, answer
        block = split_block(answer)
        return block.thinking, block.answer

    @cached_property
    def _inner_ids(self) -> frozenset[int]:
        """Control tokens between thinking and answer, which do not end an answer."""
        thinking = self.codec.thinking
        return frozenset(one for _, _, one in self.codec.find_control(thinking.closes)) if thinking else frozenset()

    def _first_end(self, text: str, tokens: Tokens, first: int, place: Mapping[str, Any]) -> int | None:
        """One past the turn's end: the last control token between the turn's words and the first end that has one."""
        for end in place["ends"]:
            words_end = max(first, bisect.bisect_left(tokens.spans, (place["words_end"], 0)))
            last = bisect.bisect_left(tokens.spans, (end, 0))
            if end != len(text) and last > words_end and tokens.spans[last - 1][1] > end:
                last -= 1  # two continuations can start with the same characters of different tokens
            if place.get("first"):
                last = self._first_run(tokens, words_end, last)
            at = self._last_end(text, tokens, words_end, last)
            if at is not None:
                return at + 1
        return None

    def _first_run(self, tokens: Tokens, first: int, last: int) -> int:
        """One past the first run of control tokens in [first, last)."""
        control = self.codec.control_ids
        start = next((at for at in range(first, last) if tokens.ids[at] in control), last)
        return next((at for at in range(start, last) if tokens.ids[at] not in control), last)

    def _last_end(self, text: str, tokens: Tokens, first: int, last: int) -> int | None:
        """The last control token in [first, last) that only whitespace follows."""
        at = last - 1
        while (
            at >= first and tokens.ids[at] not in self.codec.control_ids and tokens.ids[at] not in self.codec.stop_ids
        ):
            at -= 1
        if at < first or text[tokens.spans[at][1] : tokens.spans[last - 1][1]].strip():
            return None
        if tokens.ids[at] not in self.codec.stop_ids and tokens.ids[at] not in self._inner_ids:
            self.ends[tokens.ids[at]] = None
        return at

    def _opening(self, text: str, tokens: Tokens, start: int) -> int:
        """The first token that the assistant writes, proven to follow exactly the tokens of the prompt.

        Text before a control token does not change how the text after it is tokenized, so it is enough to compare from
        the last control token on, which is nearly always the same few characters.
        """
        first = bisect.bisect_left(tokens.spans, (start, 0))
        near = first - 1
        while near > 0 and tokens.ids[near] not in self.codec.control_ids:
            near -= 1
        prompt_end = text[tokens.spans[near][0] if near > 0 else 0 : start]
        ids = self._openings.get(prompt_end)
        if ids is None:
            if len(self._openings) >= _CACHED_OPENINGS:
                self._openings.clear()
            ids = self._openings[prompt_end] = self.codec.encode(prompt_end).ids
        if ids != tokens.ids[max(near, 0) : first]:
            raise Unrenderable(
                "token-straddles",
                "The answer's first token starts in the text before it, so in use the prompt would have other tokens.",
                f"If the answer starts with whitespace, remove it. Otherwise: {OTHER_TEMPLATE}",
            )
        return first

    def _end_of_turn(self, text: str, tokens: Tokens, first: int, end: int, *, tagged: bool) -> int:
        """One past the token that ends a tagged turn. The model need not write what follows it."""
        last = bisect.bisect_left(tokens.spans, (end, 0))
        if last > first and tokens.spans[last - 1][1] > end:
            raise Unrenderable(
                "token-straddles", "The answer's last token continues into what follows it.", OTHER_TEMPLATE
            )
        if tagged and last < len(tokens.ids) and not self._ends(tokens.ids[first:last]):
            # Some templates close the generation tag before their end of turn. Without it the model would never stop.
            if tokens.ids[last] not in self.codec.stop_ids and tokens.ids[last] not in self.ends:
                raise no_end_of_turn("the template's generation tag does not include it")
            return last + 1
        at = self._last_end(text, tokens, first, last)
        if at is None:
            raise no_end_of_turn("the template writes no control token after an answer")
        return at + 1

    def _ends(self, ids: Sequence[int]) -> bool:
        return any(one in self.codec.stop_ids or one in self.codec.control_ids for one in ids[-2:])

    def _check_tools(self, example: Conversation, text: str) -> None:
        """Raise Unrenderable if the template leaves out tools, which it does silently."""
        named = [tool.get("function", tool) for tool in example.tools]
        named += [call.get("function", {}) for message in example.messages for call in message.tool_calls or ()]
        for one in named:
            name = one.get("name")
            if isinstance(name, str) and self.codec.quote(name) not in text:
                raise tools_ignored(
                    f"{name!r} is missing from what the model would see", another=self.codec.has_tool_template
                )


def _check_content(message: Message, turn: int, answer: str, quote: Any, span: str) -> None:
    """Check that the trained text contains the row's: templates may move thinking and trim, but lose nothing else."""
    if quote(answer.strip()) not in span:
        raise left_out(turn, message.role, "part", trained=True)
    for call in message.tool_calls or ():
        if quote(str(call.get("function", {}).get("name", ""))) not in span:
            raise left_out(turn, message.role, "call", trained=True)
