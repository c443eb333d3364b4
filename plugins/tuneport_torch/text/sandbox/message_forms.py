"""Equivalent forms of a conversation for different chat templates, and what of it a template leaves out.

Runs in the template's process, so it imports only the standard library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

Turns = list[dict[str, Any]]
Write = Callable[[Turns], str]

MARK = "\ue0f2"
"""A character that no row contains, because `Codec.quote` removes it. Its place in the output shows where a text goes.
"""

FIELDS = ("reasoning_content", "thinking", "reasoning")
"""The keys under which templates read an assistant's thinking."""

_ROLE = re.compile(r"role\b[^%}]{0,60}[\"'](ipython|observation|function|tool_response)[\"']")
_MISTRAL_ID = re.compile(r"[A-Za-z0-9]{9}")


def equivalent_forms(turns: Turns, result_role: str = "tool") -> Iterator[Turns]:
    """The turns as they are, then in other forms that mean the same, fewest changes first. `result_role` is the
    template's role for the results of tool calls.
    """
    if result_role != "tool":
        turns = [{**turn, "role": result_role} if turn["role"] == "tool" else turn for turn in turns]
    for count in range(len(_CHANGES) + 1):
        for changes in combinations(_CHANGES, count):
            changed = turns
            for change in changes:
                before, changed = changed, change(changed)
                if changed == before:
                    break
            else:
                yield changed


def result_role(source: str) -> str:
    """A template's role for the results of tool calls: `tool`, or another that it names instead."""
    named = set(re.findall(r"[\"'](tool|ipython|observation|function|tool_response)[\"']", source))
    other = sorted(named - {"tool", "function"}) or sorted(named & {"function"})
    return "tool" if "tool" in named or not _ROLE.search(source) or not other else other[0]


def find_losses(turns: Turns, text: str, write: Write) -> list[tuple[int, str]]:
    """(turn, what is lost) for all that `text` does not contain: "all" or "part" of the content, a "call", the "name".

    A second rendering, in which everything ends with a mark, finds what may be lost. Each candidate is then changed
    alone: if the text stays the same, the template does not write it.
    """
    marks = {(at, what): f"{MARK}{at}{what}{MARK}" for at, turn in enumerate(turns) for what in _markable(turn)}
    try:
        marked = write(
            [_mark(turn, {what: marks[at, what] for what in _markable(turn)}) for at, turn in enumerate(turns)]
        )
    except Exception:  # noqa: BLE001 - a template can refuse marks; then each turn is tried alone
        marked = ""
    suspects = [one for one, mark in marks.items() if mark not in marked]
    found = [(at, _loss(turns, at, what, text, write)) for at, what in suspects]
    return [(at, loss) for at, loss in found if loss]


def writes_python(turns: Turns, text: str) -> bool:
    """Whether the template wrote an object in Python's notation, which is not JSON."""
    values = [turn["content"] for turn in turns if isinstance(turn.get("content"), list)]
    values += [
        arguments for turn in turns for arguments in map(_arguments, _calls(turn)) if isinstance(arguments, dict)
    ]
    return any(one and str(one) != json.dumps(one, ensure_ascii=False) and str(one) in text for one in values)


def mark_end(turn: dict[str, Any]) -> dict[str, Any]:
    """The turn with a mark after its content, if it has any, and after the name of its last call."""
    changed = _mark(turn, {"content": MARK} if _text(turn) or not _calls(turn) else {})
    if calls := _calls(turn):
        last = calls[-1].get("function", calls[-1])
        named = {**last, "name": f"{last.get('name')}{MARK}"}
        changed["tool_calls"] = [*calls[:-1], {**calls[-1], "function": named} if "function" in calls[-1] else named]
    return changed


def replace_content(turn: dict[str, Any], text: str) -> dict[str, Any]:
    """The turn with another text as its content."""
    return {**turn, "content": [{"type": "text", "text": text}] if isinstance(turn.get("content"), list) else text}


def _markable(turn: dict[str, Any]) -> list[str]:
    found = ["content"] if _text(turn).strip() else []
    found += [f"call{number}" for number, call in enumerate(_calls(turn)) if _arguments(call)]
    return found + (["name"] if turn.get("name") and "tool_call_id" not in turn and turn["role"] != "tool" else [])


def _mark(turn: dict[str, Any], marks: dict[str, str]) -> dict[str, Any]:
    changed = replace_content(turn, _text(turn) + marks["content"]) if "content" in marks else dict(turn)
    if "name" in marks:
        changed["name"] = turn["name"] + marks["name"]
    if calls := _calls(turn):
        changed["tool_calls"] = [_mark_call(call, marks.get(f"call{number}")) for number, call in enumerate(calls)]
    return changed


def _mark_call(call: dict[str, Any], mark: str | None) -> dict[str, Any]:
    arguments = _arguments(call)
    if mark is None:
        return call
    return _with_arguments(call, {**arguments, mark: ""} if isinstance(arguments, dict) else f"{arguments}{mark}")


def _loss(turns: Turns, at: int, what: str, text: str, write: Write) -> str | None:
    """What of one turn is lost, given that its mark is missing."""
    turn = turns[at]
    if what == "name":
        changed = {**turn, "name": MARK}
    elif what == "content":
        changed = replace_content(turn, MARK)
    else:
        number = int(what.removeprefix("call"))
        calls = [
            _with_arguments(call, {MARK: ""}) if place == number else call for place, call in enumerate(_calls(turn))
        ]
        changed = {**turn, "tool_calls": calls}
    try:
        same = write([*turns[:at], changed, *turns[at + 1 :]]) == text
    except Exception:  # noqa: BLE001 - a template that checks it does not leave it out
        return None
    if what != "content":
        return what.rstrip("0123456789") if same else None
    if same:
        return "all"
    content = _text(turn).strip()
    return None if content in text or json.dumps(content, ensure_ascii=False)[1:-1] in text else "part"


def _text(turn: dict[str, Any]) -> str:
    content = turn.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content if isinstance(content, str) else ""


def _calls(turn: dict[str, Any]) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = turn.get("tool_calls") or []
    return calls


def _arguments(call: dict[str, Any]) -> Any:
    return call.get("function", call).get("arguments")


def _with_arguments(call: dict[str, Any], arguments: Any) -> dict[str, Any]:
    if "function" in call:
        return {**call, "function": {**call["function"], "arguments": arguments}}
    return {**call, "arguments": arguments}


def _text_arguments(turns: Turns) -> Turns:
    """Arguments as JSON text, for templates that concatenate them."""

    def as_text(call: dict[str, Any]) -> dict[str, Any]:
        arguments = _arguments(call)
        given = isinstance(arguments, dict)
        return _with_arguments(call, json.dumps(arguments, ensure_ascii=False)) if given else call

    return [{**turn, "tool_calls": list(map(as_text, _calls(turn)))} if _calls(turn) else turn for turn in turns]


def _nine_letter_ids(turns: Turns) -> Turns:
    """Ids of nine letters and digits, as Mistral's templates require. An id only links a result to its call."""
    ids: dict[Any, str] = {}

    def short(name: Any) -> Any:
        if isinstance(name, str) and _MISTRAL_ID.fullmatch(name):
            return name
        return ids.setdefault(name, f"call{len(ids) + 1:05}")

    changed = []
    for turn in turns:
        one = dict(turn)
        if calls := _calls(turn):
            one["tool_calls"] = [{**call, "id": short(call["id"])} if "id" in call else call for call in calls]
        if "tool_call_id" in turn:
            one["tool_call_id"] = short(turn["tool_call_id"])
        changed.append(one)
    return changed


def _text_parts(turns: Turns) -> Turns:
    """Content as a list of one part, for templates of vision models."""
    return [{**turn, "content": [{"type": "text", "text": _text(turn)}]} for turn in turns]


_CHANGES = (_text_arguments, _nine_letter_ids, _text_parts)
