"""What a row asks and what answer it wants, as texts that a grader can compare."""

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
    """The messages to answer and the answer that is wanted: the last assistant turn that carries weight, as text.

    A turn of tool calls is wanted as JSON (see `answer_text`). A completion's prompt is one user message; a preference
    wants what was chosen. Raises DataError where there is no assistant turn.
    """
    if isinstance(example, Completion):
        return [Message(role="user", content=example.prompt)], example.completion
    if isinstance(example, Conversation):
        before, turns = tuple[Message, ...](), example.messages
    else:
        before, turns = example.prompt, example.chosen
    spoken = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
    if not spoken:
        raise DataError(
            "A row has no assistant turn, so there is no answer to compare with.",
            remedy="Run `tuneport check` on the file; rows for a comparison need the answer that is wanted.",
        )
    last = max((place for place in spoken if turns[place].weight != 0), default=spoken[-1])
    asked = [msgspec.structs.replace(turn, weight=None) for turn in (*before, *turns[:last])]
    wanted = turns[last]
    return asked, _calls_text(wanted.tool_calls) if wanted.tool_calls else after_thinking(wanted.text)


def answer_text(reply: Reply) -> str:
    """What a reply is graded by: its text after a thinking block, or its tool calls as JSON,
    `[{"name": …, "arguments": {…}}]` without ids.
    """
    return _calls_text(reply.tool_calls) if reply.tool_calls else after_thinking(reply.text)


def after_thinking(text: str) -> str:
    """The text behind a `<think>…</think>` block at its very start; the text itself where there is none.

    References and replies are read alike, so an answer is graded by itself whether or not the model's template knows
    the block.
    """
    found = _BLOCK.match(text)
    return text[found.end() :] if found else text


def size_of_answer(example: Example) -> int:
    """Bytes of the answer that is wanted, with the thinking before it."""
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
        if isinstance(arguments, str):  # the wire carries them as a text of JSON
            parsed = parsed_json(arguments)
            arguments = arguments if parsed is NOT_JSON else parsed
        plain.append({"name": function.get("name"), "arguments": arguments})
    return json.dumps(plain, ensure_ascii=False, sort_keys=True)


def parsed_json(text: str) -> Any:
    """The value of a JSON text, or `NOT_JSON`; NaN and Infinity are not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NOT_JSON


def _refuse(constant: str) -> None:
    raise ValueError(constant)
