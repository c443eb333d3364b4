"""Whether rows that are trained together prompt the model with thinking or without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tuneport.plugin import Conversation, Preference
from tuneport_torch.text.pairs import conversations
from tuneport_torch.text.thinking import Mode, asks_to_think, thinking_variables

if TYPE_CHECKING:
    from tuneport.plugin import Example
    from tuneport_torch.text.codec import Codec
    from tuneport_torch.text.thinking import Thinking, Variables


def count_thinking(codec: Codec, examples: Iterable[Example]) -> Counter[bool]:
    """How many rows ask the model to think, and how many do not; empty if the template has no choice."""
    thinking = codec.thinking
    if thinking is None or not thinking.has_choice:
        return Counter()
    found = (_thinks(one, thinking) for one in examples)
    return Counter(one for one in found if one is not None)


def mode_for(codec: Codec, examples: Iterable[Example]) -> str:
    """`mode_from_counts` for these rows. Reads only as many as needed."""
    thinking = codec.thinking
    if thinking is None or not thinking.has_choice:
        return Mode.ROWS
    counts: Counter[bool] = Counter()
    for one in examples:
        thinks = _thinks(one, thinking)
        if thinks is not None:
            counts[thinks] += 1
        if len(counts) == 2:
            break
    return mode_from_counts(counts)


def mode_from_counts(counts: Counter[bool]) -> str:
    """How a renderer prompts for such rows. In use a model is prompted in one way, so all rows are rendered in that
    way: if some think, the others get an empty block.
    """
    return Mode.ON if counts[True] and counts[False] else Mode.ROWS


def set_default_mode(codec: Codec, counts: Counter[bool]) -> None:
    """Make that way of prompting the template's default."""
    thinking = codec.thinking
    if thinking is not None and counts:
        variables: Variables = thinking_variables(thinking) if counts[True] else thinking.off or {}
        codec.set_template_defaults(variables)


def _thinks(example: Example, thinking: Thinking) -> bool | None:
    if isinstance(example, Conversation):
        return asks_to_think(example.messages, thinking)
    if isinstance(example, Preference):
        return any(asks_to_think(arm.messages, thinking) for arm in conversations(example))
    return None
