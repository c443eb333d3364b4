"""Which tool answer belongs to which call, where a row leaves out the ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from tuneport.dataset.example import Conversation, Example, Message, Preference
from tuneport.dataset.findings.findings import RowReport
from tuneport.dataset.shapes.tools import called


def with_call_ids(example: Example, report: RowReport) -> Example:
    """The example whose calls all have ids and whose tool answers name their calls: in order, where they do not."""
    if isinstance(example, Conversation):
        messages = _matched(example.messages, "messages", 0, report)
        return example if messages is example.messages else msgspec.structs.replace(example, messages=messages)
    if isinstance(example, Preference):
        prompt = _matched(example.prompt, "prompt", 0, report)
        arms = {
            part: _matched((*prompt, *getattr(example, part)), part, len(prompt), report)[len(prompt) :]
            for part in ("chosen", "rejected")
        }
        return msgspec.structs.replace(example, prompt=prompt, **arms)
    return example


def _matched(messages: tuple[Message, ...], part: str, before: int, report: RowReport) -> tuple[Message, ...]:
    """The messages with ids; `before` of them stand in another part of the row."""
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
        exchange = _exchange(messages[at], messages[at + 1 : end], taken)
        if exchange != [*messages[at:end]]:
            place = report.place(part, max(0, at - before)).removesuffix("/content").removesuffix("/value")
            report.add("read-as-tool-call", "Calls or answers without ids are matched in order.", place)
        found += exchange
        origins += [min(at + step, end - 1) for step in range(len(exchange))]
        at = end
    if len(found) != len(messages):
        moved(report, part, origins, before)
    return tuple(found)


def moved(report: RowReport, part: str, origins: Sequence[int], before: int = 0) -> None:
    """Let the report say where turns stand in the file: `origins` has the place of each before some became several."""
    place_of = report.place
    report.place = lambda name, index: place_of(
        name, origins[index + before] - before if name == part and index + before < len(origins) else index
    )


def _exchange(turn: Message, answers: Sequence[Message], taken: list[str]) -> list[Message]:
    """A turn and the answers to its calls, with ids; names in use are added to `taken`."""
    calls = turn.tool_calls
    if not calls:
        return [turn, *answers]
    answers = _split(answers, len(calls))
    given = {str(call["id"]) for call in calls if call.get("id")}
    spare = iter([one.tool_call_id for one in answers if one.tool_call_id and one.tool_call_id not in given])
    named = []
    for call in calls:
        name = str(call["id"]) if call.get("id") else next(spare, None) or called(taken)
        if name not in taken:
            taken.append(name)
        named.append(call if call.get("id") == name else {**call, "id": name})
    return [turn if named == calls else msgspec.structs.replace(turn, tool_calls=named), *_answering(answers, named)]


def _answering(answers: Sequence[Message], calls: Sequence[dict[str, Any]]) -> list[Message]:
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


def _split(answers: Sequence[Message], calls: int) -> Sequence[Message]:
    """One answer to several calls as one answer each, where it holds a JSON list with an item for each of them."""
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
