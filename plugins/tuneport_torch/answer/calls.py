"""Calls of tools within an answer's text."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from tuneport_torch.text.constraints import OPENS

_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
_TEXT_OR_BRACE = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[{}]', re.DOTALL)
_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


def tool_calls(said: str, bare: Collection[str] | None = None) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    """The text beside tool calls, and the calls in the wire's shape: those between `<tool_call>` tags, as Hermes and
    Qwen write them, or an answer that is one JSON object with `name` and `arguments` or `parameters`. Else the text.

    `bare` are the names that such an object may have; any, where it is None.
    """
    tagged = _CALL.findall(said)
    found = tagged or ([said] if said.lstrip().startswith("{") else [])
    calls = [_call(raw, number) for number, raw in enumerate(found)]
    if not calls or None in calls:
        return said, ()
    made = tuple(call for call in calls if call is not None)
    if not tagged and bare is not None and made[0]["function"]["name"] not in bare:
        return said, ()
    # A last call that was cut at the limit is neither a call nor something to read.
    return _CALL.sub("", said).partition(OPENS)[0].rstrip() if tagged else "", made


def shown_before_calls(said: str) -> int:
    """How many first characters of a growing text are certainly beside its calls: no call begins in them, nor does
    white space end them, which would go with a call.
    """
    if not said.lstrip() or said.lstrip().startswith("{"):
        return 0
    end = said.find(OPENS)
    if end < 0:
        end = len(said) - next((size for size in range(len(OPENS), 0, -1) if said.endswith(OPENS[:size])), 0)
    return len(said[:end].rstrip())


def begun_calls(said: str, names: Collection[str]) -> list[tuple[str, str]]:
    """The calls of these tools that a growing text holds so far: the name of each, and its arguments as far as they are
    written. A call whose beginning is of another form ends the list: whether it is one shows at its end.
    """
    found: list[tuple[str, str]] = []
    tagged = OPENS in said
    at = said.find(OPENS) + len(OPENS) if tagged else 0
    while at >= 0 and (head := _HEAD.match(said, at)):
        name = _name(head[1])
        if name is None or name not in names:
            break
        end = _object_end(said, head.end())
        found.append((name, said[head.end() : end]))
        following = said.find(OPENS, end) if tagged and end is not None else -1
        at = following + len(OPENS) if following >= 0 else -1
    return found


def _name(raw: str) -> str | None:
    try:
        return str(json.loads(raw))
    except ValueError:
        return None


def _object_end(said: str, start: int) -> int | None:
    """Where the JSON object that begins at `start` ends, or None where it is not ended yet."""
    depth = 0
    for one in _TEXT_OR_BRACE.finditer(said, start):
        depth += {"{": 1, "}": -1}.get(one[0], 0)
        if depth == 0:
            return one.end()
    return None


def _call(raw: str, number: int) -> Mapping[str, Any] | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    arguments = value.get("arguments", value.get("parameters")) if isinstance(value, dict) else None
    if not isinstance(arguments, dict) or not isinstance(value.get("name"), str):
        return None
    function = {"name": value["name"], "arguments": _written(raw) or json.dumps(arguments, ensure_ascii=False)}
    return {"id": f"call{number:05}", "type": "function", "function": function}


def _written(raw: str) -> str | None:
    """The arguments as the model wrote them, which is how a stream shows them."""
    head = _HEAD.match(raw)
    end = _object_end(raw, head.end()) if head else None
    return raw[head.end() : end] if head and end is not None else None
