"""Messages in the form that chat templates expect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tuneport.plugin import Completion, Conversation
from tuneport_torch.text.refusals import Unrenderable
from tuneport_torch.text.thinking import Thinking, split_turn

if TYPE_CHECKING:
    from tuneport.plugin import Example, Message

_OPEN_THINKING, _CLOSE_THINKING = "<think>", "</think>"


class SplitText(NamedTuple):
    """An assistant's text, equal to `opening + thinking + closing + answer`. The first three may be empty."""

    opening: str
    thinking: str
    closing: str
    answer: str


def split_block(text: str) -> SplitText:
    """Split a text after the thinking block at its start. The opening tag may be missing if the prompt writes it."""
    front, closing, answer = text.partition(_CLOSE_THINKING)
    opened = front.lstrip().startswith(_OPEN_THINKING)
    if not closing or not (opened or front.endswith("\n") or answer.startswith("\n")):
        return SplitText("", "", "", text)
    start = front.index(_OPEN_THINKING) + len(_OPEN_THINKING) if opened else 0
    space = answer[: len(answer) - len(answer.lstrip())]
    return SplitText(front[:start], front[start:], closing + space, answer.lstrip())


def to_template_turn(message: Message, developer: str, thinking: Thinking | None = None) -> dict[str, Any]:
    """A message as templates expect it: content is text, and a tool call's arguments are an object, not JSON text.

    The assistant's thinking is in `reasoning_content`, even if the message has it as a block that the template knows.
    """
    if not isinstance(message.content, str | None) and any(part.get("type") != "text" for part in message.content):
        raise Unrenderable("images", "This row contains parts that are not text.", "Leave the row out.")
    turn: dict[str, Any] = {"role": developer if message.role == "developer" else message.role, "content": message.text}
    if message.role == "assistant":
        thought, turn["content"] = split_turn(message, thinking)
        if thought:
            turn["reasoning_content"] = thought
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [_parse_arguments(call) for call in message.tool_calls]
    return turn


def _parse_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return dict(call)
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return dict(call)
    return {**call, "function": {**function, "arguments": arguments}}


def assistant_turns(example: Conversation) -> list[int]:
    """The indices of the assistant's messages."""
    return [at for at, message in enumerate(example.messages) if message.role == "assistant"]


def plain_text(example: Example) -> str:
    """The texts of an example without a template, for counting."""
    if isinstance(example, Conversation):
        return "\n".join(message.text for message in example.messages)
    if isinstance(example, Completion):
        return example.prompt + example.completion
    return "\n".join(message.text for message in (*example.prompt, *example.chosen, *example.rejected))
