"""How rows that are trained together ask the model: with thinking, or without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tuneport.plugin import Conversation, Preference
from tuneport_torch.text.pairs import conversations
from tuneport_torch.text.thinking import Mode, asks_to_think, switched_on

if TYPE_CHECKING:
    from tuneport.plugin import Example
    from tuneport_torch.text.codec import Codec
    from tuneport_torch.text.thinking import Thinking, Variables


def count_ways(codec: Codec, examples: Iterable[Example]) -> Counter[bool]:
    """How many rows ask to think, and how many do not; none where the template leaves no choice."""
    thinking = codec.thinking
    if thinking is None or not thinking.has_choice:
        return Counter()
    found = (_thinks(one, thinking) for one in examples)
    return Counter(one for one in found if one is not None)


def mode_for(codec: Codec, examples: Iterable[Example]) -> str:
    """`mode_of` for those rows; reads no further than it must."""
    thinking = codec.thinking
    if thinking is None or not thinking.has_choice:
        return Mode.ROWS
    ways: Counter[bool] = Counter()
    for one in examples:
        thinks = _thinks(one, thinking)
        if thinks is not None:
            ways[thinks] += 1
        if len(ways) == 2:
            break
    return mode_of(ways)


def mode_of(ways: Counter[bool]) -> str:
    """How a renderer asks for such rows. A model is asked in one way in use, so all of them are read in that one: where
    some think, the others show an empty block.
    """
    return Mode.ON if ways[True] and ways[False] else Mode.ROWS


def settle(codec: Codec, ways: Counter[bool]) -> None:
    """Give the template that way as its default."""
    thinking = codec.thinking
    if thinking is not None and ways:
        variables: Variables = switched_on(thinking) if ways[True] else thinking.off or {}
        codec.settle(variables)


def _thinks(example: Example, thinking: Thinking) -> bool | None:
    if isinstance(example, Conversation):
        return asks_to_think(example.messages, thinking)
    if isinstance(example, Preference):
        return any(asks_to_think(arm.messages, thinking) for arm in conversations(example))
    return None
