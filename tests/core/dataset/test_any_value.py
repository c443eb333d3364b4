"""No value at any place of a row of any shape crashes a check."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tuneport import Dataset
from tuneport.errors import TuneportError

CALL = {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USE = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {}}}}}
ROWS: dict[str, Any] = {
    "messages": {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"}, USE], "weight": 1, "train": True},
            {"role": "tool", "content": "r", "tool_call_id": "a", "name": "f"},
            {"role": "assistant", "content": "a", "reasoning_content": "z", "tool_calls": [CALL]},
        ],
        "tools": [TOOL],
        "history": [["a", "b"]],
    },
    "ShareGPT": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "tools": "[]"},
    "Gemini": {
        "contents": [
            {"role": "user", "parts": [{"text": "q"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"x": 1}}}]},
            {"role": "model", "parts": [{"text": "z"}]},
        ],
        "systemInstruction": {"parts": [{"text": "s"}]},
    },
    "pairs": {"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "a"}],
              "rejected": [{"role": "assistant", "content": "b"}]},
    "OpenAI's pairs": {"input": {"messages": [{"role": "user", "content": "q"}]},
                       "preferred_output": [{"role": "assistant", "content": "a"}],
                       "non_preferred_output": [{"role": "assistant", "content": "b"}]},
    "context": {"question": "q", "answer": "a", "context": {"title": ["x"], "sentences": [["y"]]}},
    "Alpaca": {"instruction": "i", "input": "x", "output": "o", "history": [["a", "b"]], "system": "s"},
}  # fmt: skip
VALUES = [[], {}, [[]], [{}], {"type": []}, {"role": []}, None, True, 1.5, "\ud800"]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield (*at, key)
        yield from places(one, (*at, key))


def replace_at(row: Any, at: tuple[Any, ...], value: Any) -> Any:
    row = copy.deepcopy(row)
    held = row
    for key in at[:-1]:
        held = held[key]
    held[at[-1]] = value
    return row


@pytest.mark.parametrize("name", ROWS)
def test_a_value_of_any_kind_at_any_place_is_checked(name: str) -> None:
    row = ROWS[name]
    for at in places(row):
        for value in VALUES:
            try:
                Dataset.load([row, replace_at(row, at, value), row]).check()
            except TuneportError as error:
                assert error.remedy, (at, value)
