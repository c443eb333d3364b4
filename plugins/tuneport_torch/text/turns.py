"""Messages in the terms of chat templates."""

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


class Parts(NamedTuple):
    """What an assistant wrote: `opening + thinking + closing + answer` is the text. The first three may be empty."""

    opening: str
    thinking: str
    closing: str
    answer: str


def parts(text: str) -> Parts:
    """Cut a text behind the thinking in front of it. The opening tag may be missing, where the prompt writes it."""
    front, closing, answer = text.partition(_CLOSE_THINKING)
    opened = front.lstrip().startswith(_OPEN_THINKING)
    if not closing or not (opened or front.endswith("\n") or answer.startswith("\n")):
        return Parts("", "", "", text)
    start = front.index(_OPEN_THINKING) + len(_OPEN_THINKING) if opened else 0
    space = answer[: len(answer) - len(answer.lstrip())]
    return Parts(front[:start], front[start:], closing + space, answer.lstrip())


def template_turn(message: Message, developer: str, thinking: Thinking | None = None) -> dict[str, Any]:
    """A message as templates expect it: content is always text, a tool call's arguments an object and not its JSON.

    What the assistant thought is its `reasoning_content`, also where it stands as a block that the template knows.
    """
    if not isinstance(message.content, str | None) and any(part.get("type") != "text" for part in message.content):
        raise Unrenderable("images", "This row holds parts that are not text.", "Leave the row out.")
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
        turn["tool_calls"] = [_call(call) for call in message.tool_calls]
    return turn


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return dict(call)
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return dict(call)
    return {**call, "function": {**function, "arguments": arguments}}


def assistant_turns(example: Conversation) -> list[int]:
    """The places of the assistant's messages."""
    return [at for at, message in enumerate(example.messages) if message.role == "assistant"]


def bare_text(example: Example) -> str:
    """The texts of an example without any template, for counting."""
    if isinstance(example, Conversation):
        return "\n".join(message.text for message in example.messages)
    if isinstance(example, Completion):
        return example.prompt + example.completion
    return "\n".join(message.text for message in (*example.prompt, *example.chosen, *example.rejected))
