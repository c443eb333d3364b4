"""Tool calls that stand as text in a turn, as Hermes and Qwen models write them, to calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from tuneport.dataset.example import Conversation, Example, Message
from tuneport.dataset.findings.findings import RowReport
from tuneport.dataset.shapes.call_ids import moved
from tuneport.dataset.shapes.tools import read_calls

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_ANSWER = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)


def with_calls_of_text(example: Example, report: RowReport) -> Example:
    """The conversation whose `<tool_call>` texts are calls and whose `<tool_response>` texts are tools' answers.

    They are read so where the row has tools, or where a tool's answer follows. Elsewhere they are text like any other.
    """
    if not isinstance(example, Conversation):
        return example
    messages = example.messages
    if not any(_called(message) for message in messages):
        return example
    found: list[Message] = []
    origins: list[int] = []
    open_calls = False
    for at, message in enumerate(messages):
        following = messages[at + 1] if at + 1 < len(messages) else None
        if _called(message) and (example.tools or (following is not None and _answers(following))):
            turns = [_with_calls(message, report.place("messages", at), report)]
            open_calls = turns[0] is not message
        elif open_calls and (texts := _answers(message)):
            turns = [_answer(message, text) for text in texts]
        else:
            turns = [message]
            open_calls = open_calls and message.role == "tool"
        found += turns
        origins += [at] * len(turns)
    if [*messages] == found:
        return example
    if not report.failed:
        moved(report, "messages", origins)
    return msgspec.structs.replace(example, messages=tuple(found))


def _called(message: Message) -> bool:
    text = message.content
    return message.role == "assistant" and isinstance(text, str) and "<tool_call>" in text and not message.tool_calls


def _answers(message: Message) -> Sequence[str]:
    """What a turn says that tools answered: all of it, or nothing."""
    text = message.content
    if message.role not in ("tool", "user") or not isinstance(text, str):
        return ()
    if _ANSWER.sub("", text).strip() == "" and (texts := _ANSWER.findall(text)):
        return [one.strip() for one in texts]
    return [text] if message.role == "tool" else ()


def _answer(message: Message, text: str) -> Message:
    if message.role == "tool":
        return msgspec.structs.replace(message, content=text)
    return Message(role="tool", content=text)


def _with_calls(message: Message, place: str, report: RowReport) -> Message:
    text = message.text
    if _CALL.sub("", text[text.index("<tool_call>") :]).strip():
        report.add(
            "bad-tool-call",
            "Text follows a call that is written as <tool_call> in the text, or the call is not closed.",
            place,
            "Let the turn end with its calls. Or write them as tool_calls.",
        )
        return message
    calls: list[dict[str, Any]] = []
    for number, one in enumerate(_CALL.findall(text)):
        inner = RowReport(report.line)
        read = read_calls(one.strip(), place, inner)
        if inner.failed or not read:
            report.add(
                "bad-tool-call",
                f"What stands in <tool_call> number {number + 1} of the text is no call.",
                place,
                'Write it as JSON: <tool_call>{"name": …, "arguments": {…}}</tool_call>. Or write tool_calls.',
            )
            return message
        calls += read
    report.add("read-as-tool-call", "<tool_call> in the text is read as tool calls.", place)
    said = text[: text.index("<tool_call>")].strip()
    return msgspec.structs.replace(message, content=said or None, tool_calls=calls)
