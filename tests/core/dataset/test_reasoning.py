"""The assistant's reasoning is kept in every format and shape, and no remedy drops it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneport import Conversation, Dataset, Message, Preference
from tuneport.dataset import canonical, example_pieces, from_canonical
from tuneport.dataset.example import digest

ASKED = {"role": "user", "content": "2+2?"}
SAID = {"role": "assistant", "content": "4"}
THOUGHT = "Two more."
WANTED = Message("assistant", "4", reasoning_content=THOUGHT)


def load(folder: Path, *rows: Any, name: str = "rows.jsonl") -> Dataset:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Dataset.load(path)


def answers(example: Any) -> list[Message]:
    turns = example.messages if isinstance(example, Conversation) else (*example.chosen, *example.rejected)
    return [turn for turn in turns if turn.role == "assistant"]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize("shape", ["messages", "conversations", "prompt", "preference", "chosen", "tools"])
def test_every_shape_keeps_reasoning_under_every_key(tmp_path: Path, shape: str, key: str) -> None:
    said, other = {**SAID, key: THOUGHT}, {**SAID, "content": "5"}
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    called = {"role": "assistant", "content": None, "tool_calls": [call], key: THOUGHT}
    row: dict[str, Any] = {
        "messages": {"messages": [ASKED, said]},
        "conversations": {
            "conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4", key: THOUGHT}]
        },
        "prompt": {"prompt": [ASKED], "completion": [said]},
        "preference": {"input": {"messages": [ASKED]}, "preferred_output": [said], "non_preferred_output": [other]},
        "chosen": {"prompt": [ASKED], "chosen": [said], "rejected": [other]},
        "tools": {
            "messages": [ASKED, called, {"role": "tool", "tool_call_id": "1", "content": "4"}, SAID],
            "tools": [tool],
        },
    }[shape]
    dataset = load(tmp_path, row)
    assert not {"unknown-key", "bad-reasoning"} & set(dataset.check().counts)
    (example,) = dataset
    assert answers(example)[0].reasoning_content == THOUGHT
    assert from_canonical(canonical(example)) == example
    written = Dataset.load(dataset.write(tmp_path / "written.jsonl"))
    assert list(written) == [example]
    fixed = dataset.fix(tmp_path / "fixed.jsonl")
    assert fixed.counts == {}
    assert list(Dataset.load(fixed.path)) == [example]
    assert THOUGHT in "".join(piece.text for piece in example_pieces(example))


def test_reasoning_is_part_of_the_content() -> None:
    plain = Conversation((Message("user", "2+2?"), Message("assistant", "4")))
    thought = Conversation((Message("user", "2+2?"), WANTED))
    assert digest(plain) != digest(thought)
    assert b"reasoning" not in canonical(plain)  # the names of rows without it stay what they were


def test_empty_reasoning_is_no_reasoning(tmp_path: Path) -> None:
    (example,) = load(tmp_path, {"messages": [ASKED, {**SAID, "reasoning_content": None, "thinking": ""}]})
    assert example == Conversation((Message("user", "2+2?"), Message("assistant", "4")))


@pytest.mark.parametrize(
    "turns",
    [
        [ASKED, {**SAID, "thinking": ["Two", "more"]}],
        [ASKED, {**SAID, "thinking": "Two more.", "reasoning": "No, three."}],
        [{**ASKED, "reasoning": "I wonder."}, SAID],
        [ASKED, {**SAID, "reasoning_details": [{"text": "Two more."}]}],
    ],
)
def test_unreadable_reasoning_is_an_error_and_is_never_deleted(tmp_path: Path, turns: list[Any]) -> None:
    dataset = load(tmp_path, {"messages": turns}, {"messages": [ASKED, SAID]})
    assert dataset.check().counts["bad-reasoning"] == 1
    fixed = dataset.fix(tmp_path / "fixed.jsonl")
    assert (fixed.written, fixed.dropped) == (1, 1)


def test_turns_with_reasoning_are_not_joined(tmp_path: Path) -> None:
    turns = [ASKED, SAID, {**SAID, "content": "Four.", "thinking": THOUGHT}]
    dataset = load(tmp_path, {"messages": turns})
    dataset.fix(tmp_path / "fixed.jsonl")
    (example,) = Dataset.load(tmp_path / "fixed.jsonl")
    assert [turn.reasoning_content for turn in answers(example)] == [None, THOUGHT]


def test_tables_keep_reasoning_in_lists_of_messages(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(
        arrow.Table.from_pylist([{"messages": [ASKED, {**SAID, "thinking": THOUGHT}]}]), tmp_path / "rows.parquet"
    )
    (example,) = Dataset.load(tmp_path / "rows.parquet")
    assert answers(example) == [WANTED]


def test_preferences_keep_reasoning_in_both_answers(tmp_path: Path) -> None:
    row = {"prompt": [ASKED], "chosen": [ASKED, {**SAID, "reasoning": THOUGHT}], "rejected": [ASKED, SAID]}
    (example,) = load(tmp_path, row)
    assert example == Preference(
        prompt=(Message("user", "2+2?"),), chosen=(WANTED,), rejected=(Message("assistant", "4"),)
    )


@pytest.mark.parametrize("text", ["<think>\nTwo more.\n</think>\n\n4", "<think>\n\n</think>\n\n4"])
@pytest.mark.parametrize("shape", ["messages", "conversations", "columns"])
def test_a_think_block_that_repeats_the_key_is_trained_on_once(shape: str, text: str) -> None:
    row: dict[str, Any] = {
        "messages": {"messages": [ASKED, {"role": "assistant", "content": text, "reasoning": THOUGHT}]},
        "conversations": {
            "conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": text, "thinking": THOUGHT}]
        },
        "columns": {"question": "2+2?", "answer": text, "reasoning_content": THOUGHT},
    }[shape]
    (example,) = Dataset.load([row])
    assert answers(example) == [WANTED]
    row = json.loads(json.dumps(row).replace(THOUGHT, "Another thought.", 1).replace("<think>\\n\\n", "<think>No. "))
    assert Dataset.load([row]).check().counts["bad-reasoning"] == 1


@pytest.mark.parametrize(
    "row",
    [
        {"question": "2+2?", "answer": "4"},
        {"prompt": "2+2?", "completion": "4"},
        {"instruction": "2+2?", "output": "4"},
        {"text": "2+2?", "label": "4"},
    ],
)
def test_a_column_of_reasoning_is_used_or_has_a_remedy(row: dict[str, Any]) -> None:
    (example,) = Dataset.load([row | {"reasoning_content": THOUGHT}])
    assert answers(example) == [WANTED]
    dataset = Dataset.load([row | {"thinking": THOUGHT}])
    found = {one.code: one for one in dataset.check().diagnostics}
    assert "--column reasoning=thinking" in str(found["context-column-unused"].remedy)
    (example,) = Dataset.load([row | {"thinking": THOUGHT}], columns={"reasoning": "thinking"})
    assert answers(example) == [WANTED]


def test_a_column_of_reasoning_with_turns_is_an_error() -> None:
    row = {"prompt": [ASKED], "completion": [SAID], "reasoning_content": THOUGHT}
    assert Dataset.load([row]).check().counts["bad-reasoning"] == 1


def test_no_remedy_suggests_a_role_that_the_shape_lacks() -> None:
    row = {"messages": [ASKED, SAID], "context": "Counting."}
    found = {one.code: one for one in Dataset.load([row]).check().diagnostics}
    assert "--column" not in str(found["context-column-unused"].remedy)
