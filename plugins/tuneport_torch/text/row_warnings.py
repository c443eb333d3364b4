"""Warnings about rows that can be trained on, but may not teach what their author expects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuneport.plugin import Diagnostic, Preference
from tuneport_torch.text.messages import split_block
from tuneport_torch.text.pairs import conversations

if TYPE_CHECKING:
    from tuneport.plugin import Conversation, Message
    from tuneport_torch.text.codec import Codec


def find_warnings(example: Conversation | Preference, codec: Codec) -> Iterator[Diagnostic]:
    """Warnings about a row's text. None of them prevents training."""
    turns = [turn for turn in _turns(example) if turn.role == "assistant"]
    knows_thinking = codec.thinking is not None and codec.thinking.supported
    if not knows_thinking and any(split_block(turn.text).thinking.strip() for turn in turns):
        yield Diagnostic(
            code="thinking-as-text",
            severity="warning",
            message="An answer starts with a thinking block, but the model's chat template does not support thinking: "
            "the block is trained as ordinary text, and the model's answers will show it.",
            remedy="Remove the blocks from the rows, or choose a base model whose chat template supports thinking.",
        )
    if codec.calls is None and any(turn.tool_calls for turn in turns):
        yield Diagnostic(
            code="calls-as-text",
            severity="warning",
            message="The model's chat template writes tool calls in a form that cannot be parsed: the model's answers "
            "will show its calls as text, and are graded as text.",
            remedy="Choose a base model whose chat template writes calls as JSON or between tags, or parse them.",
        )


def _turns(example: Conversation | Preference) -> Iterator[Message]:
    if isinstance(example, Preference):
        for arm in conversations(example):
            yield from arm.messages
    else:
        yield from example.messages
