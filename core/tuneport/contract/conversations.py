"""What a user asks, as messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuneport.errors import UsageError

if TYPE_CHECKING:
    from tuneport.dataset import Message

    Conversational = str | Sequence[Mapping[str, Any] | Message]


def read_conversation(messages: Conversational, system: str | None) -> list[Message]:
    """The messages of a conversation, or of a text as its only user turn. `system` is put first when the messages have
    no system prompt. Raises UsageError.
    """
    import msgspec

    from tuneport.dataset import Message

    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    try:
        turns = [
            one if isinstance(one, Message) else msgspec.convert(_rename_reasoning(one), Message) for one in messages
        ]
    except msgspec.ValidationError as error:
        raise UsageError(
            f"A message does not have the form {{'role': …, 'content': …}}: {error}.",
            remedy="Pass a text, or a list of messages such as [{'role': 'user', 'content': 'Hello'}].",
        ) from error
    if not turns:
        raise UsageError("There is no message to answer.", remedy="Pass a text or at least one message.")
    if system and turns[0].role not in ("system", "developer"):
        turns.insert(0, Message(role="system", content=system))
    return turns


def _rename_reasoning(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message with its thinking under `reasoning_content`, whichever key another tool uses for it."""
    other = next((key for key in ("reasoning", "thinking") if isinstance(turn, Mapping) and key in turn), None)
    if other is None or "reasoning_content" in turn:
        return turn
    return {("reasoning_content" if key == other else key): value for key, value in turn.items()}
