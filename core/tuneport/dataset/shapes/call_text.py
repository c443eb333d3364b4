"""Tool calls written as text in a turn, as Hermes and Qwen models write them, to calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from tuneport.dataset.example import Conversation, Example, Message
from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.shapes.tools import read_calls

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_ANSWER = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)


def with_calls_from_text(example: Example, report: RowReport) -> Example:
    """The example with `<tool_call>` texts converted to calls and `<tool_response>` texts to tool answers.

    They are converted where the row has tools or a tool's answer follows. Elsewhere they stay text.
    """
    if not isinstance(example, Conversation):
        return example
    messages = example.messages
    if not any(_has_call_text(message) for message in messages):
        return example
    found: list[Message] = []
    origins: list[int] = []
    open_calls = False
    for at, message in enumerate(messages):
        following = messages[at + 1] if at + 1 < len(messages) else None
        if _has_call_text(message) and (example.tools or (following is not None and _answer_texts(following))):
            turns = [_read_call_text(message, report.place("messages", at), report)]
            open_calls = turns[0] is not message
        elif open_calls and (texts := _answer_texts(message)):
            turns = [_to_tool_turn(message, text) for text in texts]
        else:
            turns = [message]
            open_calls = open_calls and message.role == "tool"
        found += turns
        origins += [at] * len(turns)
    if [*messages] == found:
        return example
    if not report.failed:
        report.move_turns("messages", origins)
    return msgspec.structs.replace(example, messages=tuple(found))


def _has_call_text(message: Message) -> bool:
    text = message.content
    return message.role == "assistant" and isinstance(text, str) and "<tool_call>" in text and not message.tool_calls


def _answer_texts(message: Message) -> Sequence[str]:
    """The tool answers in a turn that has nothing else; empty for any other turn."""
    text = message.content
    if message.role not in ("tool", "user") or not isinstance(text, str):
        return ()
    if _ANSWER.sub("", text).strip() == "" and (texts := _ANSWER.findall(text)):
        return [one.strip() for one in texts]
    return [text] if message.role == "tool" else ()


def _to_tool_turn(message: Message, text: str) -> Message:
    if message.role == "tool":
        return msgspec.structs.replace(message, content=text)
    return Message(role="tool", content=text)


def _read_call_text(message: Message, place: str, report: RowReport) -> Message:
    text = message.text
    if _CALL.sub("", text[text.index("<tool_call>") :]).strip():
        report.add(
            "bad-tool-call",
            "Text follows a <tool_call> in the text, or the call is not closed.",
            place,
            "End the turn with its calls, or write them as tool_calls.",
        )
        return message
    calls: list[dict[str, Any]] = []
    for number, one in enumerate(_CALL.findall(text)):
        inner = RowReport(report.line)
        read = read_calls(one.strip(), place, inner)
        if inner.failed or not read:
            report.add(
                "bad-tool-call",
                f"<tool_call> number {number + 1} of the text does not contain a call.",
                place,
                'Write it as JSON: <tool_call>{"name": …, "arguments": {…}}</tool_call>. Or use tool_calls.',
            )
            return message
        calls += read
    report.add("read-as-tool-call", "<tool_call> in the text is read as tool calls.", place)
    content = text[: text.index("<tool_call>")].strip()
    return msgspec.structs.replace(message, content=content or None, tool_calls=calls)
