"""What a row asks and what answer it wants, as texts that a grader can compare."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tuneport.dataset.example import Completion, Conversation, Example, Message
from tuneport.errors import DataError

if TYPE_CHECKING:
    from tuneport.answers import Reply

NOT_JSON = object()


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
    return asked, _calls_text(wanted.tool_calls) if wanted.tool_calls else wanted.text


def answer_text(reply: Reply) -> str:
    """What a reply is graded by: its text, or its tool calls as JSON, `[{"name": …, "arguments": {…}}]` without ids."""
    return _calls_text(reply.tool_calls) if reply.tool_calls else reply.text


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
