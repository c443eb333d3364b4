"""What a row that can be trained on teaches otherwise than its writer may expect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuneport.plugin import Diagnostic, Preference
from tuneport_torch.text.pairs import conversations
from tuneport_torch.text.turns import parts

if TYPE_CHECKING:
    from tuneport.plugin import Conversation, Message
    from tuneport_torch.text.codec import Codec


def hints(example: Conversation | Preference, codec: Codec) -> Iterator[Diagnostic]:
    """Warnings about the words of a row, of which none stops a training."""
    turns = [turn for turn in _turns(example) if turn.role == "assistant"]
    knows_thinking = codec.thinking is not None and codec.thinking.takes
    if not knows_thinking and any(parts(turn.text).thinking.strip() for turn in turns):
        yield Diagnostic(
            code="thinking-as-text",
            severity="warning",
            message="An answer begins with a thinking block, and the model's chat template knows none: the block is "
            "trained as ordinary text, and the model's answers will show it.",
            remedy="Remove the blocks from the rows, or choose a base model whose chat template knows thinking.",
        )
    if codec.calls is None and any(turn.tool_calls for turn in turns):
        yield Diagnostic(
            code="calls-as-text",
            severity="warning",
            message="The model's chat template writes calls of tools in a form that cannot be read back: the model's "
            "answers will show its calls as text, and are graded as text.",
            remedy="Choose a base model whose chat template writes calls as JSON or between tags, or read them.",
        )


def _turns(example: Conversation | Preference) -> Iterator[Message]:
    if isinstance(example, Preference):
        for arm in conversations(example):
            yield from arm.messages
    else:
        yield from example.messages
