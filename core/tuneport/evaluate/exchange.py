"""A row's prompt and reference, and a reply, as texts that a grader can compare."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tuneport.dataset import Completion, Conversation, Example, Message
from tuneport.errors import DataError

if TYPE_CHECKING:
    from tuneport.contract.answers import Reply

NOT_JSON = object()
_BLOCK = re.compile(r"\s*<think>.*?</think>\s*(?=\S)", re.DOTALL)


def prompt_and_reference(example: Example) -> tuple[list[Message], str]:
    """The messages to answer, and the reference: the text of the last assistant turn whose weight is not 0.

    For tool calls, the reference is JSON (see `answer_text`). The prompt of a completion is one user message. The
    reference of a preference is the chosen answer. Raises DataError if there is no assistant turn.
    """
    if isinstance(example, Completion):
        return [Message(role="user", content=example.prompt)], example.completion
    if isinstance(example, Conversation):
        before, turns = tuple[Message, ...](), example.messages
    else:
        before, turns = example.prompt, example.chosen
    assistant = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
    if not assistant:
        raise DataError(
            "A row has no assistant turn, so there is no answer to compare with.",
            remedy="Run `tuneport check` on the file. Rows for a comparison need a reference answer.",
        )
    last = max((place for place in assistant if turns[place].weight != 0), default=assistant[-1])
    asked = [msgspec.structs.replace(turn, weight=None) for turn in (*before, *turns[:last])]
    wanted = turns[last]
    return asked, _calls_text(wanted.tool_calls) if wanted.tool_calls else after_thinking(wanted.text)


def answer_text(reply: Reply) -> str:
    """The text of a reply that is graded: its text after a thinking block, or its tool calls as JSON,
    `[{"name": …, "arguments": {…}}]`, without ids.
    """
    return _calls_text(reply.tool_calls) if reply.tool_calls else after_thinking(reply.text)


def after_thinking(text: str) -> str:
    """The text after a leading `<think>…</think>` block, or the text itself if there is none.

    References and replies are treated alike, so that thinking is not graded even if the model's template does not know
    the block.
    """
    found = _BLOCK.match(text)
    return text[found.end() :] if found else text


def answer_bytes(example: Example) -> int:
    """The size of the reference in bytes, with the thinking before it."""
    turns = example.messages if isinstance(example, Conversation) else ()
    thought = max((len((turn.reasoning_content or "").encode("utf-8", "replace")) for turn in turns), default=0)
    inline = max(
        (len(turn.text) - len(after_thinking(turn.text)) for turn in turns if turn.role == "assistant"), default=0
    )
    return len(prompt_and_reference(example)[1].encode("utf-8", "replace")) + max(thought, 2 * inline)


def _calls_text(calls: Sequence[Mapping[str, Any]]) -> str:
    plain = []
    for call in calls:
        function = call.get("function", call)
        arguments = function.get("arguments")
        if isinstance(arguments, str):  # the API sends arguments as JSON text
            parsed = parse_json(arguments)
            arguments = arguments if parsed is NOT_JSON else parsed
        plain.append({"name": function.get("name"), "arguments": arguments})
    return json.dumps(plain, ensure_ascii=False, sort_keys=True)


def parse_json(text: str) -> Any:
    """Parse JSON text; `NOT_JSON` if it is invalid. NaN and Infinity are not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NOT_JSON


def _refuse(constant: str) -> None:
    raise ValueError(constant)
