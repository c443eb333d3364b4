"""A preference as a model sees it in training: the prompt with the better answer, and with the worse."""

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
    """The prompt followed by either answer, in which only the answer is weighed."""
    prompt = tuple(
        msgspec.structs.replace(turn, weight=0) if turn.role == "assistant" else turn for turn in pair.prompt
    )

    def with_answer(answer: tuple[Message, ...]) -> Conversation:
        return Conversation(messages=prompt + answer, tools=pair.tools)

    return with_answer(pair.chosen), with_answer(pair.rejected)


def render_pairs(renderer: Renderer, examples: Sequence[Example]) -> list[Arms | Unrenderable]:
    """Both answers of each preference behind the same prompt ids, weighed to their ends of turn; or why not, in order.

    Both must answer the very same tokens: else what is compared would be prompts, and not answers.
    """
    pairs = [one for one in examples if isinstance(one, Preference)]
    arms = iter(_asked_alike(renderer, list(chain.from_iterable(map(conversations, pairs)))))
    return [
        _paired(next(arms), next(arms))
        if isinstance(one, Preference)
        else Unrenderable("shape", "This is no pair of a chosen and a rejected answer.", "Use method: sft.")
        for one in examples
    ]


def _asked_alike(renderer: Renderer, arms: list[Conversation]) -> list[Rendered | Unrenderable]:
    """Chosen and rejected answers in turn; both of a pair are asked with thinking where one of them brings some."""
    found = renderer.try_render(arms)
    unlike = [at for at in range(0, len(arms), 2) if _thinks(found[at]) != _thinks(found[at + 1])]
    places = [place for at in unlike for place in (at, at + 1)]
    for place, one in zip(places, renderer.render_thinking([arms[place] for place in places]), strict=True):
        found[place] = one
    return found


def _thinks(one: Rendered | Unrenderable) -> bool:
    return isinstance(one, Rendered) and one.thinks


def longest(renderer: Renderer, examples: Sequence[Example]) -> list[int]:
    """The length of each example in tokens; of a preference that of its longer answer with the prompt, since that is
    what must fit the model.
    """
    texts = [conversations(one) if isinstance(one, Preference) else (one,) for one in examples]
    counts = iter(renderer.count_tokens(list(chain.from_iterable(texts))))
    return [max(next(counts) for _ in some) for some in texts]


def pieces(renderer: Renderer, pair: Preference) -> list[Piece]:
    """Both answers as text; what is to become less likely has a negative weight. Raises Unrenderable."""
    (arms,) = render_pairs(renderer, [pair])
    if isinstance(arms, Unrenderable):
        raise arms
    shown: list[Piece] = []
    for title, rendered, sign in (("chosen\n", arms[0], 1), ("\nrejected\n", arms[1], -1)):
        shown.append(Piece(title, 0, 0))
        shown += [Piece(one.text, sign * one.weight, one.tokens) for one in renderer.shown(rendered)]
    return shown


def diagnose(renderer: Renderer, pair: Preference) -> list[Diagnostic]:
    """Why the pair cannot be trained on, if it cannot."""
    (arms,) = render_pairs(renderer, [pair])
    if not isinstance(arms, Unrenderable):
        return []
    return [Diagnostic(code=arms.code, severity="error", message=arms.message, remedy=arms.remedy or "")]


def _paired(chosen: Rendered | Unrenderable, rejected: Rendered | Unrenderable) -> Arms | Unrenderable:
    for name, arm in (("chosen", chosen), ("rejected", rejected)):
        if isinstance(arm, Unrenderable):
            return Unrenderable(arm.code, f"{name}: {arm.message}", arm.remedy or "")
    assert isinstance(chosen, Rendered)
    assert isinstance(rejected, Rendered)
    if _prompt(chosen) != _prompt(rejected):
        return Unrenderable(
            "prompts-differ",
            "The two answers do not follow the same tokens, so they cannot be compared.",
            f"Let both begin with an assistant turn. {OTHER_TEMPLATE}",
        )
    return chosen, rejected


def _prompt(rendered: Rendered) -> list[int]:
    """What stands before the first token that is weighed."""
    first = next(place for place, weight in enumerate(rendered.weights) if weight)
    return rendered.ids[:first]
