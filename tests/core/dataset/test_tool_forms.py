"""Tools and tool calls of other libraries are converted, noted, and written in the usual form."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tuneport import Conversation, Dataset, Preference
from tuneport.dataset import Message

FUNCTION = {
    "name": "sky",
    "description": "Color of the sky",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
}
TOOL = {"type": "function", "function": FUNCTION}
ARGUMENTS = {"town": "Århus", "hours": [1, 2]}
ID = re.compile("[A-Za-z0-9]{9}")


def call(town: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "sky", "arguments": town or ARGUMENTS}, **more}


def said(role: str, content: Any = None, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def sharegpt_turn(speaker: str, value: Any) -> dict[str, Any]:
    return {"from": speaker, "value": value}


def read(row: dict[str, Any]) -> tuple[Message, ...]:
    """The messages of a row without errors that `fix` writes unchanged."""
    data = Dataset.load([row])
    result = data.check()
    assert result.ok, [str(one) for one in result.diagnostics]
    assert result.warnings == 1, [str(one) for one in result.diagnostics]  # few rows
    [example] = data
    assert isinstance(example, Conversation)
    assert list(example.tools) == [TOOL]
    return example.messages


@pytest.mark.parametrize(
    "tools",
    [
        [FUNCTION],
        FUNCTION,
        TOOL,
        json.dumps([TOOL]),
        json.dumps([FUNCTION]),
        [json.dumps(FUNCTION)],
        [{"type": "function", **FUNCTION}],
        [{"function": FUNCTION}],
        [{"name": "sky", "description": FUNCTION["description"], "input_schema": FUNCTION["parameters"]}],
        [{"type": "function", "function": {**FUNCTION, "parameters": json.dumps(FUNCTION["parameters"])}}],
    ],
)
def test_a_tool_is_read_in_each_form(tools: Any) -> None:
    assert read({"messages": [said("user", "Hi"), said("assistant", "Hello")], "tools": tools})
    assert read({"conversations": [sharegpt_turn("human", "Hi"), sharegpt_turn("gpt", "Hello")], "tools": tools})
    assert read({"messages": [said("user", "Hi"), said("assistant", "Hello")], "functions": tools})


ONE_CALL: list[list[dict[str, Any]]] = [
    [said("assistant", tool_calls=[call(id="c1")]), said("tool", "blue", tool_call_id="c1")],
    [said("assistant", tool_calls=[call()]), said("tool", "blue", name="sky")],
    [said("assistant", tool_calls=[call(json.dumps(ARGUMENTS))]), said("tool", "blue")],
    [said("assistant", tool_calls=[{"name": "sky", "arguments": ARGUMENTS}]), said("tool", "blue")],
    [said("assistant", tool_calls=call()), said("tool", "blue")],
    [said("assistant", tool_calls=json.dumps([call()])), said("tool", "blue")],
    [said("assistant", tool_calls=[call()]), said("tool", "blue", tool_call_id="abc")],
    [said("assistant", function_call={"name": "sky", "arguments": json.dumps(ARGUMENTS)}), said("function", "blue")],
    [said("function_call", json.dumps({"name": "sky", "arguments": ARGUMENTS})), said("observation", "blue")],
    [said("tool_call", {"name": "sky", "arguments": ARGUMENTS}), said("tool_response", "blue")],
]


@pytest.mark.parametrize("turns", ONE_CALL)
def test_a_call_is_read_in_each_form(turns: list[dict[str, Any]], tmp_path: Path) -> None:
    row = {"messages": [said("user", "Sky?"), *turns, said("assistant", "Blue.")], "tools": [TOOL]}
    messages = read(row)
    assert [message.role for message in messages] == ["user", "assistant", "tool", "assistant"]
    [made] = messages[1].tool_calls or ()
    assert made["type"] == "function"
    assert made["function"]["name"] == "sky"
    assert json.loads(made["function"]["arguments"]) == ARGUMENTS
    assert "Århus" in made["function"]["arguments"] or "\\u00c5" in made["function"]["arguments"]
    assert messages[2].tool_call_id == made["id"]
    assert messages[2].text == "blue"
    assert made["id"] in ("c1", "abc") or ID.fullmatch(made["id"])
    assert "read-as-tool-call" in Dataset.load([row]).check().counts
    result = Dataset.load([row]).fix(tmp_path / "new.jsonl")
    assert (result.written, result.changed) == (1, 1)
    written = Dataset.load(tmp_path / "new.jsonl")
    assert list(written) == list(Dataset.load([row]))
    assert set(written.check().counts) == {"few-rows"}


def two(answers: list[dict[str, Any]], *calls: dict[str, Any]) -> list[tuple[str | None, str]]:
    """The calls' towns with the answers matched to them."""
    made = calls or (call({"town": "Oslo"}), call({"town": "Rome"}))
    turns = [said("user", "Sky?"), said("assistant", tool_calls=[*made]), *answers, said("assistant", "So.")]
    messages = read({"messages": turns, "tools": [TOOL]})
    given = {one["id"]: json.loads(one["function"]["arguments"])["town"] for one in messages[1].tool_calls or ()}
    assert len(given) == 2
    return [(given.get(one.tool_call_id), one.text) for one in messages if one.role == "tool"]


def test_answers_are_matched_to_calls_in_order() -> None:
    right = [("Oslo", "gray"), ("Rome", "blue")]
    assert two([said("tool", "gray"), said("tool", "blue")]) == right
    assert two([said("tool", '["gray", "blue"]')]) == right
    assert two([said("tool", "gray", tool_call_id="x"), said("tool", "blue", tool_call_id="y")]) == right
    one_id = call({"town": "Oslo"}), call({"town": "Rome"}, id="call00001")
    assert two([said("tool", "blue", tool_call_id="call00001"), said("tool", "gray")], *one_id) == right[::-1]
    null_ids = call({"town": "Oslo"}, id=None), call({"town": "Rome"}, id="")
    assert two([said("tool", "gray"), said("tool", "blue")], *null_ids) == right


def test_an_answer_that_names_its_function_belongs_to_that_call() -> None:
    sea = {"type": "function", "function": {"name": "sea", "arguments": {}}}
    answers = [said("tool", "calm", name="sea"), said("tool", "gray", name="sky")]
    turns = [said("user", "?"), said("assistant", tool_calls=[call(), sea]), *answers, said("assistant", "So.")]
    [example] = Dataset.load([{"messages": turns}])
    assert isinstance(example, Conversation)
    first, second = [one["id"] for one in example.messages[1].tool_calls or ()]
    assert [one.tool_call_id for one in example.messages[2:4]] == [second, first]


def test_new_ids_are_unique_in_a_conversation() -> None:
    ask = said("assistant", tool_calls=[call()])
    turns = [said("user", "?"), ask, said("tool", "a"), ask, said("tool", "b"), said("assistant", "So.")]
    messages = read({"messages": turns, "tools": [TOOL]})
    ids = [one["id"] for message in messages for one in message.tool_calls or ()]
    assert len(set(ids)) == 2
    assert all(ID.fullmatch(name) for name in ids)


def test_several_calls_of_llama_factory_are_read() -> None:
    calls = [{"name": "sky", "arguments": {"town": town}} for town in ("Oslo", "Rome")]
    for value, answers in (
        (json.dumps(calls), [sharegpt_turn("observation", '["gray", "blue"]')]),
        (calls, [sharegpt_turn("observation", "gray"), sharegpt_turn("observation", "blue")]),
    ):
        turns = [
            sharegpt_turn("human", "?"),
            sharegpt_turn("function_call", value),
            *answers,
            sharegpt_turn("gpt", "So."),
        ]
        messages = read({"conversations": turns, "tools": json.dumps([FUNCTION])})
        assert [message.text for message in messages if message.role == "tool"] == ["gray", "blue"]
        assert [message.tool_call_id for message in messages if message.role == "tool"] == [
            one["id"] for one in messages[1].tool_calls or ()
        ]


def test_findings_after_a_split_answer_keep_their_place() -> None:
    calls = json.dumps([{"name": "sky", "arguments": {"town": town}} for town in ("Oslo", "Rome")])
    turns = [
        sharegpt_turn("human", "?"),
        sharegpt_turn("function_call", calls),
        sharegpt_turn("observation", "[1, 2]"),
        sharegpt_turn("gpt", "So "),
    ]
    found = Dataset.load([{"conversations": turns, "tools": [TOOL]}]).check().diagnostics
    assert [one.pointer for one in found if one.code == "edge-whitespace"] == ["/conversations/3/value"]


def test_calls_in_both_answers_of_a_pair_get_ids() -> None:
    row = {
        "prompt": [said("user", "?"), said("assistant", tool_calls=[call()]), said("tool", "blue")],
        "chosen": [said("assistant", tool_calls=[call({"town": "Rome"})])],
        "rejected": [said("assistant", "No.")],
    }
    [pair] = Dataset.load([row])
    assert isinstance(pair, Preference)
    [asked] = pair.prompt[1].tool_calls or ()
    assert pair.prompt[2].tool_call_id == asked["id"]
    [chosen] = pair.chosen[0].tool_calls or ()
    assert {type(one["function"]["arguments"]) for one in (asked, chosen)} == {str}
    assert chosen["id"] != asked["id"]


FILLED = {
    "town": {"type": "string", "enum": None},
    "hours": None,
    "unit": {"enum": ["a", None], "anyOf": [{"x": None}]},
}
CLEAN = {"town": {"type": "string"}, "unit": {"enum": ["a", None], "anyOf": [{}]}}


def row_with_nulls() -> dict[str, Any]:
    """A row from a table: each object has the keys of all others."""
    tool = {"type": "function", "function": {**FUNCTION, "parameters": {"type": "object", "properties": FILLED}}}
    asked = call({"town": "Oslo", "hours": None}, id="c1", index=None)

    def parts(text: str) -> list[dict[str, Any]]:
        return [{"type": "text", "text": text, "image_url": None}]

    turns = [
        said("user", parts("Sky?"), tool_calls=None, name=None),
        said("assistant", tool_calls=[asked], name=None),
        said("tool", parts("blue"), tool_call_id="c1", tool_calls=None),
        said("assistant", parts("Blue."), tool_calls=None),
    ]
    return {"messages": turns, "tools": [tool]}


def test_nulls_in_tools_are_left_out_of_jsonl_and_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    (tmp_path / "rows.jsonl").write_text(json.dumps(row_with_nulls()) + "\n", encoding="utf-8")
    parquet.write_table(pa.Table.from_pylist([row_with_nulls()]), tmp_path / "rows.parquet")
    lines, table = (Dataset.load(tmp_path / f"rows.{kind}") for kind in ("jsonl", "parquet"))
    assert "null" not in b"".join(lines.lines()).decode().replace('["a",null]', "")
    assert list(lines) == list(table)
    [example] = lines
    assert isinstance(example, Conversation)
    assert example.tools[0]["function"]["parameters"]["properties"] == CLEAN
    assert lines.check().counts["null-left-out"] == 5  # three parts, the call, the tool
    lines.fix(tmp_path / "new.jsonl")
    assert "null" not in (tmp_path / "new.jsonl").read_text(encoding="utf-8").replace('["a",null]', "")


def test_a_null_in_a_json_text_of_tools_stays() -> None:
    tool = {"type": "function", "function": {"name": "sky", "parameters": {"type": "object", "default": None}}}
    row = {"messages": [said("user", "Hi"), said("assistant", "Hello")], "tools": json.dumps([tool])}
    [example] = Dataset.load([row])
    assert isinstance(example, Conversation)
    assert example.tools == (tool,)


@pytest.mark.parametrize(
    ("calls", "code"),
    [
        ([{"id": "1"}], "bad-tool-call"),
        ("weather please", "bad-tool-call"),
        ([call("Oslo")], "tool-arguments-not-json"),
        ([call(["Oslo"])], "tool-arguments-not-json"),
    ],
)
def test_an_invalid_call_is_an_error(calls: Any, code: str) -> None:
    result = Dataset.load([{"messages": [said("user", "?"), said("assistant", tool_calls=calls)]}]).check()
    assert code in result.counts
    assert not result.used
