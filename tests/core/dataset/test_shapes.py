"""Known shapes become examples; errors and lost columns are reported."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuneport import Completion, Conversation, Dataset, Message, Preference
from tuneport.dataset.shapes.shapes import SHAPES, RowShape
from tuneport.errors import UsageError
from tuneport.plugin import DataRules


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path_factory.mktemp("home")))


def one(row: dict[str, Any], **options: Any) -> Any:
    data = Dataset.load([row], **options)
    (example,) = data
    return example


def said(*turns: str) -> Conversation:
    """`user: text` and the like."""
    pairs = (turn.split(": ", 1) for turn in turns)
    return Conversation(messages=tuple(Message(role=role, content=text) for role, text in pairs))


CALL = {"id": "call00001", "type": "function", "function": {"name": "rain", "arguments": '{"city": "Oslo"}'}}
TOOL = {"type": "function", "function": {"name": "rain", "parameters": {"type": "object"}}}
PROMPT, GOOD, BAD = (Message(role=r, content=c) for r, c in (("user", "Hi"), ("assistant", "Yes"), ("assistant", "No")))
PAIR = Preference(prompt=(PROMPT,), chosen=(GOOD,), rejected=(BAD,))


def wire(*messages: Message) -> list[dict[str, Any]]:
    return [message.to_dict() for message in messages]


@pytest.mark.parametrize(
    ("row", "example"),
    [
        ({"messages": wire(PROMPT, GOOD)}, said("user: Hi", "assistant: Yes")),
        ({"prompt": "2 + 2 =", "completion": " 4"}, Completion(prompt="2 + 2 =", completion=" 4")),
        ({"prompt": wire(PROMPT), "completion": wire(GOOD)}, said("user: Hi", "assistant: Yes")),
        ({"instruction": "Add", "input": "1, 2", "output": 3}, said("user: Add\n\n1, 2", "assistant: 3")),
        ({"instruction": "Add", "input": "", "output": "3"}, said("user: Add", "assistant: 3")),
        (
            {"instruction": "Add", "output": "3", "system": "Be brief"},
            said("system: Be brief", "user: Add", "assistant: 3"),
        ),
        ({"instruction": "Add", "context": "1", "response": "3"}, said("user: Add\n\n1", "assistant: 3")),
        ({"question": "Why?", "answer": "So"}, said("user: Why?", "assistant: So")),
        ({"text": "Lost card", "label": "lost_card"}, said("user: Lost card", "assistant: lost_card")),
        ({"utterance": "Lost card", "intent": 41}, said("user: Lost card", "assistant: 41")),
        (
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}], "system": "Be kind"},
            said("system: Be kind", "user: Hi", "assistant: Yes"),
        ),
        (
            {"input": {"messages": wire(PROMPT)}, "preferred_output": wire(GOOD), "non_preferred_output": wire(BAD)},
            PAIR,
        ),
        ({"prompt": "Hi", "chosen": "Yes", "rejected": "No"}, PAIR),
        ({"prompt": wire(PROMPT), "chosen": wire(GOOD), "rejected": wire(BAD)}, PAIR),
        ({"chosen": wire(PROMPT, GOOD), "rejected": wire(PROMPT, BAD)}, PAIR),
        ({"prompt": "Hi", "chosen": wire(PROMPT, GOOD), "rejected": wire(PROMPT, BAD)}, PAIR),
        ({"chosen": "\n\nHuman: Hi\n\nAssistant: Yes", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}, PAIR),
    ],
)
def test_a_shape_is_recognized(row: dict[str, Any], example: Any) -> None:
    assert one(row) == example


@pytest.mark.parametrize("example", [said("user: Hi", "assistant: Yes"), Completion(prompt="a", completion="b"), PAIR])
def test_examples_made_in_python_stay_what_they_are(example: Any) -> None:
    assert list(Dataset.from_examples(iter([example]))) == [example]


def test_tool_calls_and_their_answers_are_kept() -> None:
    messages = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call00001", "content": "no"},
        {"role": "assistant", "content": "It is dry.", "weight": 1},
    ]
    example = one({"messages": messages, "tools": [TOOL], "parallel_tool_calls": False})
    assert example.tools == (TOOL,)
    assert example.parallel_tool_calls is False
    assert example.messages[1].tool_calls == [CALL]
    assert example.messages[3].weight == 1
    as_text = {"messages": __import__("json").dumps(messages), "tools": __import__("json").dumps([TOOL])}
    assert one(as_text).messages == example.messages


def test_calls_in_sharegpt_become_tool_calls() -> None:
    turns = [
        {"from": "human", "value": "Rain?"},
        {"from": "function_call", "value": '{"name": "rain", "arguments": {"city": "Oslo"}}'},
        {"from": "observation", "value": "no"},
        {"from": "gpt", "value": "It is dry."},
    ]
    example = one({"conversations": turns, "tools": [TOOL]})
    (call,) = example.messages[1].tool_calls
    assert call["function"] == {"name": "rain", "arguments": '{"city": "Oslo"}'}
    assert example.messages[2].tool_call_id == call["id"]
    assert Dataset.load([{"conversations": turns, "tools": [TOOL]}]).check().ok


def test_the_weight_of_a_call_in_sharegpt_is_kept() -> None:
    turns = [
        {"from": "human", "value": "Rain?"},
        {"from": "function_call", "value": '{"name": "rain", "arguments": {}}', "weight": 0},
        {"from": "observation", "value": "no"},
        {"from": "gpt", "value": "It is dry."},
    ]
    assert one({"conversations": turns, "tools": [TOOL]}).messages[1].weight == 0


@pytest.mark.parametrize(
    ("turn", "kept"), [("Be brief", ["Be kind", "Be brief"]), ("Be kind", ["Be kind"]), (None, ["Be kind"])]
)
def test_a_system_prompt_in_a_column_is_kept_in_addition_to_one_in_the_turns(turn: str | None, kept: list[str]) -> None:
    first = [{"from": "system", "value": turn}] if turn else []
    turns = [*first, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]
    example = one({"conversations": turns, "system": "Be kind"})
    assert [message.text for message in example.messages if message.role == "system"] == kept


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Add", "output": "3", "system": ["Be brief"]},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}], "system": {"a": 1}},
    ],
)
def test_a_system_prompt_that_is_not_a_text_is_an_error(row: dict[str, Any]) -> None:
    [found] = [one for one in Dataset.load([row]).check().diagnostics if one.severity == "error" and one.line]
    assert (found.code, found.pointer) == ("not-text", "/system")


def test_columns_and_a_system_prompt_are_used_as_given() -> None:
    row = {"body": "Lost card", "queue": "cards", "text": "other"}
    example = one(row, columns={"text": "body", "label": "queue"}, system="Sort it.")
    assert example == said("system: Sort it.", "user: Lost card", "assistant: cards")
    own = {"messages": [{"role": "system", "content": "Mine"}, *wire(PROMPT, GOOD)]}
    assert one(own, system="Yours").messages[0].content == "Mine"


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"txt": "body"}, "Did you mean text"),
        ({"text": "bdy", "label": "queue"}, "Did you mean body"),
        ({"text": "body", "answer": "queue"}, "not a shape"),
    ],
)
def test_wrong_columns_are_refused_with_the_nearest_name(columns: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Dataset.load([{"body": "Lost card", "queue": "cards"}], columns=columns)


KEYS = "role content weight tool_calls tool_call_id name function arguments from value type text image_url url id"
JSON = st.recursive(
    st.sampled_from([None, True, 0, 1, 2, 0.5, "", "a", "user", "assistant", "tool", "[", "{}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(shape=st.sampled_from(SHAPES), data=st.data())
def test_no_value_in_known_columns_crashes_a_check(shape: RowShape, data: st.DataObject) -> None:
    columns = st.fixed_dictionaries(dict.fromkeys(shape.required, JSON), optional=dict.fromkeys(shape.optional, JSON))
    rows = data.draw(st.lists(columns, min_size=1, max_size=4))
    result = Dataset.load(rows).check(DataRules(tools=False))
    assert (result.read, result.used + result.rejected) == (len(rows), len(rows))
    assert len(list(result.dataset)) == result.used


def test_a_row_of_another_shape_is_an_error_and_the_others_are_used() -> None:
    rows = [{"question": "a", "answer": "b"}] * 3 + [{"prompt": "a", "completion": "b"}, {"question": "a"}]
    result = Dataset.load(rows).check()
    assert (result.used, result.counts["mixed-shapes"], result.counts["missing-value"]) == (3, 1, 1)


def test_no_url_and_no_path_in_a_row_is_followed() -> None:
    image = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/never"}}
    example = one({"messages": [{"role": "user", "content": [image]}, *wire(GOOD)]})
    assert example.messages[0].content == [image]
    bad = [{"messages": [{"role": "user", "content": [{**image, "image_url": {"url": "/etc/passwd"}}]}, *wire(GOOD)]}]
    assert Dataset.load(bad).check().counts["bad-part"] == 1
