"""Matches tool answers to calls where a row has no ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from tuneport.dataset.example import Conversation, Example, Message, Preference
from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.shapes.tools import new_call_id


def with_call_ids(example: Example, report: RowReport) -> Example:
    """The example with an id on each call and on each tool answer; missing ones are matched in order."""
    if isinstance(example, Conversation):
        messages = _match(example.messages, "messages", 0, report)
        return example if messages is example.messages else msgspec.structs.replace(example, messages=messages)
    if isinstance(example, Preference):
        prompt = _match(example.prompt, "prompt", 0, report)
        arms = {
            part: _match((*prompt, *getattr(example, part)), part, len(prompt), report)[len(prompt) :]
            for part in ("chosen", "rejected")
        }
        return msgspec.structs.replace(example, prompt=prompt, **arms)
    return example


def _match(messages: tuple[Message, ...], part: str, before: int, report: RowReport) -> tuple[Message, ...]:
    """The messages with ids; the first `before` of them are in another part of the row."""
    if not any(message.tool_calls for message in messages):
        return messages
    taken = [str(call["id"]) for message in messages for call in message.tool_calls or () if call.get("id")]
    found: list[Message] = []
    origins: list[int] = []
    at = 0
    while at < len(messages):
        end = at + 1
        if messages[at].tool_calls:
            while end < len(messages) and messages[end].role == "tool":
                end += 1
        exchange = _match_exchange(messages[at], messages[at + 1 : end], taken)
        if exchange != [*messages[at:end]]:
            place = report.place(part, max(0, at - before)).removesuffix("/content").removesuffix("/value")
            report.add("read-as-tool-call", "Calls or answers without ids are matched in order.", place)
        found += exchange
        origins += [min(at + step, end - 1) for step in range(len(exchange))]
        at = end
    if len(found) != len(messages):
        report.move_turns(part, origins, before)
    return tuple(found)


def _match_exchange(turn: Message, answers: Sequence[Message], taken: list[str]) -> list[Message]:
    """A turn and the answers to its calls, with ids; used ids are added to `taken`."""
    calls = turn.tool_calls
    if not calls:
        return [turn, *answers]
    answers = _split_answer(answers, len(calls))
    given = {str(call["id"]) for call in calls if call.get("id")}
    spare = iter([one.tool_call_id for one in answers if one.tool_call_id and one.tool_call_id not in given])
    named = []
    for call in calls:
        name = str(call["id"]) if call.get("id") else next(spare, None) or new_call_id(taken)
        if name not in taken:
            taken.append(name)
        named.append(call if call.get("id") == name else {**call, "id": name})
    return [turn if named == calls else msgspec.structs.replace(turn, tool_calls=named), *_name_calls(answers, named)]


def _name_calls(answers: Sequence[Message], calls: Sequence[dict[str, Any]]) -> list[Message]:
    answered = {answer.tool_call_id for answer in answers}
    waiting = [call for call in calls if call["id"] not in answered]
    found = []
    for answer in answers:
        if answer.tool_call_id is None and waiting:
            same = (call for call in waiting if answer.name and call["function"]["name"] == answer.name)
            call = next(same, waiting[0])
            waiting.remove(call)
            found.append(msgspec.structs.replace(answer, tool_call_id=call["id"]))
        else:
            found.append(answer)
    return found


def _split_answer(answers: Sequence[Message], calls: int) -> Sequence[Message]:
    """One answer to several calls, split where it is a JSON list with one item per call."""
    if len(answers) != 1 or calls < 2 or answers[0].tool_call_id is not None:
        return answers
    try:
        items = json.loads(answers[0].text)
    except (ValueError, RecursionError):
        return answers
    if not isinstance(items, list) or len(items) != calls:
        return answers
    texts = [item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in items]
    return [msgspec.structs.replace(answers[0], content=text) for text in texts]
