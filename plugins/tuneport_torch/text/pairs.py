"""Renders a preference pair: the prompt with the chosen answer, and with the rejected one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from tuneport.plugin import Conversation, Diagnostic, Piece, Preference
from tuneport_torch.text.refusals import OTHER_TEMPLATE, Unrenderable
from tuneport_torch.text.render import Rendered

if TYPE_CHECKING:
    from tuneport.plugin import Example, Message
    from tuneport_torch.text.render import Renderer

Arms = tuple[Rendered, Rendered]


def conversations(pair: Preference) -> tuple[Conversation, Conversation]:
    """The prompt followed by each answer. Only the answer has weight."""
    prompt = tuple(
        msgspec.structs.replace(turn, weight=0) if turn.role == "assistant" else turn for turn in pair.prompt
    )

    def with_answer(answer: tuple[Message, ...]) -> Conversation:
        return Conversation(messages=prompt + answer, tools=pair.tools)

    return with_answer(pair.chosen), with_answer(pair.rejected)


def render_pairs(renderer: Renderer, examples: Sequence[Example]) -> list[Arms | Unrenderable]:
    """Both answers of each pair after the same prompt ids, weighted through their ends of turn; or why not, in order.

    Both must follow exactly the same tokens. Otherwise prompts would be compared, not answers.
    """
    pairs = [one for one in examples if isinstance(one, Preference)]
    arms = iter(_render_arms(renderer, list(chain.from_iterable(map(conversations, pairs)))))
    return [
        _pair(next(arms), next(arms))
        if isinstance(one, Preference)
        else Unrenderable("shape", "This row is not a pair of a chosen and a rejected answer.", "Use method: sft.")
        for one in examples
    ]


def _render_arms(renderer: Renderer, arms: list[Conversation]) -> list[Rendered | Unrenderable]:
    """Chosen and rejected answers alternating. If one of a pair has thinking, both are prompted with thinking."""
    found = renderer.try_render(arms)
    differ = [at for at in range(0, len(arms), 2) if _thinks(found[at]) != _thinks(found[at + 1])]
    places = [place for at in differ for place in (at, at + 1)]
    for place, one in zip(places, renderer.render_thinking([arms[place] for place in places]), strict=True):
        found[place] = one
    return found


def _thinks(one: Rendered | Unrenderable) -> bool:
    return isinstance(one, Rendered) and one.thinks


def longest(renderer: Renderer, examples: Sequence[Example]) -> list[int]:
    """The length of each example in tokens; of a pair, the prompt with the longer answer, because that must fit the
    model.
    """
    texts = [conversations(one) if isinstance(one, Preference) else (one,) for one in examples]
    counts = iter(renderer.count_tokens(list(chain.from_iterable(texts))))
    return [max(next(counts) for _ in some) for some in texts]


def pieces(renderer: Renderer, pair: Preference) -> list[Piece]:
    """Both answers as text; what should become less likely has a negative weight. Raises Unrenderable."""
    (arms,) = render_pairs(renderer, [pair])
    if isinstance(arms, Unrenderable):
        raise arms
    shown: list[Piece] = []
    for title, rendered, sign in (("chosen\n", arms[0], 1), ("\nrejected\n", arms[1], -1)):
        shown.append(Piece(title, 0, 0))
        shown += [Piece(one.text, sign * one.weight, one.tokens) for one in renderer.pieces_of(rendered)]
    return shown


def diagnose(renderer: Renderer, pair: Preference) -> list[Diagnostic]:
    """Why the pair cannot be trained on; empty if it can."""
    (arms,) = render_pairs(renderer, [pair])
    if not isinstance(arms, Unrenderable):
        return []
    return [Diagnostic(code=arms.code, severity="error", message=arms.message, remedy=arms.remedy or "")]


def _pair(chosen: Rendered | Unrenderable, rejected: Rendered | Unrenderable) -> Arms | Unrenderable:
    for name, arm in (("chosen", chosen), ("rejected", rejected)):
        if isinstance(arm, Unrenderable):
            return Unrenderable(arm.code, f"{name}: {arm.message}", arm.remedy or "")
    assert isinstance(chosen, Rendered)
    assert isinstance(rejected, Rendered)
    if _prompt(chosen) != _prompt(rejected):
        return Unrenderable(
            "prompts-differ",
            "The two answers do not follow the same tokens, so they cannot be compared.",
            f"Start both with an assistant turn. {OTHER_TEMPLATE}",
        )
    return chosen, rejected


def _prompt(rendered: Rendered) -> list[int]:
    """The tokens before the first one with weight."""
    first = next(place for place, weight in enumerate(rendered.weights) if weight)
    return rendered.ids[:first]
