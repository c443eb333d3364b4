"""Rows of vendors and datasets: turns of parts, calls in text, pairs in other columns, passages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneport import CheckResult, Completion, Conversation, Dataset, Preference

SCHEMA = {"type": "object", "properties": {"town": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "sky", "description": "Its color", "parameters": SCHEMA}}
BARE = {"name": "sky", "description": "Its color"}
LOUD = {"type": "OBJECT", "properties": {"town": {"type": "STRING"}}}
GIVEN = {"town": "Oslo"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
CALL = '<tool_call>\n{"name": "sky", "arguments": {"town": "Oslo"}}\n</tool_call>'
ASKED = {"role": "user", "content": "Color?"}
END = {"role": "assistant", "content": "Blue."}
EXCHANGE = ["user Color?", 'assistant () Looking. sky {"town": "Oslo"}', "tool gray", "assistant Blue."]
THOUGHT = [EXCHANGE[0], 'assistant (I ask.) Looking. sky {"town": "Oslo"}', *EXCHANGE[2:]]


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path_factory.mktemp("home")))


def parts(*content: dict[str, Any], role: str = "assistant") -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def use(**more: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": "sky", "input": GIVEN, **more}


def result(content: Any = "gray") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": content}


THINKING = {"type": "thinking", "thinking": "I ask.", "signature": "c2ln"}
ANTHROPIC = {"tools": [{**BARE, "input_schema": SCHEMA}]}
FORMS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "Anthropic": (
        {"messages": [ASKED, parts(THINKING, text("Looking."), use()), parts(result(), role="user"), END], **ANTHROPIC},
        THOUGHT,
    ),
    "Anthropic's parts of a result": (
        {
            "messages": [
                ASKED,
                parts(text("Looking."), use(cache_control={"type": "ephemeral"})),
                parts(result([text("gray")]), role="user"),
                parts(text("Blue.")),
            ],
            **ANTHROPIC,
        },
        EXCHANGE,
    ),
    "Anthropic as a table fills it": (
        {
            "messages": [
                ASKED,
                parts(
                    {**text("Looking."), "id": None, "input": None, "content": None},
                    {**use(), "text": None, "content": None},
                ),
                parts({**result(), "text": None, "input": None, "name": None}, role="user"),
                END,
            ],
            **ANTHROPIC,
        },
        EXCHANGE,
    ),
    "Bedrock": (
        {
            "messages": [
                {"role": "user", "content": [{"text": "Color?"}]},
                parts(
                    {"reasoningContent": {"reasoningText": {"text": "I ask.", "signature": "c2ln"}}},
                    {"text": "Looking."},
                    {"toolUse": {"toolUseId": "t1", "name": "sky", "input": GIVEN}},
                ),
                parts({"toolResult": {"toolUseId": "t1", "content": [{"text": "gray"}]}}, role="user"),
                parts({"text": "Blue."}),
            ],
            "toolConfig": {"tools": [{"toolSpec": {**BARE, "inputSchema": {"json": SCHEMA}}}]},
        },
        THOUGHT,
    ),
    "Gemini": (
        {
            "contents": [
                {"role": "user", "parts": [{"text": "Color?"}]},
                {
                    "role": "model",
                    "parts": [
                        {"text": "I ask.", "thought": True},
                        {"text": "Looking."},
                        {"functionCall": {"name": "sky", "args": GIVEN}},
                    ],
                },
                {"role": "user", "parts": [{"functionResponse": {"name": "sky", "response": "gray"}}]},
                {"role": "model", "parts": [{"text": "Blue."}]},
            ],
            "tools": [{"functionDeclarations": [{**BARE, "parameters": LOUD}]}],
        },
        THOUGHT,
    ),
    "Vercel's AI SDK": (
        {
            "messages": [
                ASKED,
                parts(
                    {"type": "reasoning", "text": "I ask."},
                    text("Looking."),
                    {"type": "tool-call", "toolCallId": "t1", "toolName": "sky", "input": GIVEN},
                ),
                parts(
                    {
                        "type": "tool-result",
                        "toolCallId": "t1",
                        "toolName": "sky",
                        "output": {"type": "text", "value": "gray"},
                    },
                    role="tool",
                ),
                END,
            ],
            "tools": [TOOL],
        },
        THOUGHT,
    ),
    "Mistral's thinking": (
        {"messages": [ASKED, parts({"type": "thinking", "thinking": [text("I ask.")]}, text("Blue."))]},
        ["user Color?", "assistant (I ask.) Blue."],
    ),
    "OpenAI's Responses": (
        {
            "messages": [
                parts({"type": "input_text", "text": "Color?"}, role="user"),
                parts({"type": "output_text", "text": "Blue.", "annotations": []}),
            ]
        },
        ["user Color?", "assistant Blue."],
    ),
    "OpenAI's refusal": (
        {"messages": [ASKED, {"role": "assistant", "content": None, "refusal": "No."}]},
        ["user Color?", "assistant No."],
    ),
    "Cohere's speakers": (
        {"messages": [{"role": "User", "content": "Color?"}, {"role": "Chatbot", "content": "Blue."}]},
        ["user Color?", "assistant Blue."],
    ),
    "Hermes": (
        {"messages": [ASKED, {**END, "content": f"Looking.\n{CALL}"}, {"role": "tool", "content": "gray"}, END]},
        EXCHANGE,
    ),
    "Hermes in the words of ShareGPT": (
        {
            "conversations": [
                {"from": "Human", "value": "Color?"},
                {"from": "gpt", "value": f"Looking.\n{CALL}"},
                {"from": "tool", "value": "<tool_response>\ngray\n</tool_response>"},
                {"from": "gpt", "value": "Blue."},
            ]
        },
        EXCHANGE,
    ),
    "Hermes with tool answers in user turns": (
        {
            "messages": [
                ASKED,
                {**END, "content": f"Looking.\n{CALL}"},
                {"role": "user", "content": "<tool_response>\ngray\n</tool_response>"},
                END,
            ]
        },
        EXCHANGE,
    ),
    "Hermes with tools and without an answer": (
        {"messages": [ASKED, {**END, "content": CALL}], "tools": [TOOL]},
        ["user Color?", 'assistant () sky {"town": "Oslo"}'],
    ),
    "a call in the text of a row without tools": (
        {"messages": [ASKED, {**END, "content": CALL}]},
        ["user Color?", f"assistant {CALL}"],
    ),
    "pairs": ({"conversation": [{"human": "Color?", "assistant": "Blue."}]}, ["user Color?", "assistant Blue."]),
    "LangChain": (
        {"messages": [{"type": "human", "data": {"content": "Color?"}}, {"type": "ai", "content": "Blue."}]},
        ["user Color?", "assistant Blue."],
    ),
    "LangChain's calls": (
        {
            "messages": [
                {"type": "human", "content": "Color?"},
                {
                    "type": "ai",
                    "content": "Looking.",
                    "tool_calls": [{"name": "sky", "args": GIVEN, "id": "1", "type": "tool_call"}],
                },
                {"type": "tool", "content": "gray", "tool_call_id": "1"},
                {"type": "ai", "content": "Blue."},
            ],
            "tools": [TOOL],
        },
        EXCHANGE,
    ),
    "a list for each key": (
        {"conversations": {"from": ["human", "gpt"], "value": ["Color?", "Blue."]}},
        ["user Color?", "assistant Blue."],
    ),
    "roles and contents in lists": (
        {"messages": {"role": ["user", "assistant"], "content": ["Color?", "Blue."]}},
        ["user Color?", "assistant Blue."],
    ),
    "one part and one text": (
        {"messages": [{"role": "user", "content": text("Color?")}, {"role": "assistant", "content": ["Blue."]}]},
        ["user Color?", "assistant Blue."],
    ),
    "one message as the completion": ({"prompt": [ASKED], "completion": END}, ["user Color?", "assistant Blue."]),
    "calls as the answer": (
        {"query": "Color?", "answers": json.dumps([{"name": "sky", "arguments": GIVEN}]), "tools": [TOOL]},
        ["user Color?", 'assistant () sky {"town": "Oslo"}'],
    ),
    "query and response": ({"query": "Color?", "response": "Blue."}, ["user Color?", "assistant Blue."]),
    "input and output": ({"input": "Color?", "output": "Blue."}, ["user Color?", "assistant Blue."]),
}


def load(row: dict[str, Any], folder: Path, **options: Any) -> tuple[Dataset, CheckResult]:
    path = folder / "rows.jsonl"
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    data = Dataset.load(path, **options)
    return data, data.check()


def shown(data: Dataset) -> list[str]:
    [example] = data
    assert isinstance(example, Conversation)
    lines = []
    for one in example.messages:
        calls = [f"{call['function']['name']} {call['function']['arguments']}" for call in one.tool_calls or ()]
        thought = [f"({one.reasoning_content or ''})"] if calls or one.reasoning_content else []
        lines.append(" ".join(filter(None, [one.role, *thought, one.text, *calls])))
    return lines


@pytest.mark.parametrize(("row", "wanted"), FORMS.values(), ids=FORMS)
def test_a_row_in_a_vendors_form_is_converted(row: dict[str, Any], wanted: list[str], tmp_path: Path) -> None:
    data, result = load(row, tmp_path)
    assert result.ok, [str(one) for one in result.diagnostics]
    assert shown(data) == wanted
    [example] = data
    assert isinstance(example, Conversation)
    assert all(tool == TOOL for tool in example.tools)
    ids = [call["id"] for message in example.messages for call in message.tool_calls or ()]
    assert [one.tool_call_id for one in example.messages if one.role == "tool"] in (ids, [])
    data.write(tmp_path / "usual.jsonl")
    assert shown(Dataset.load(tmp_path / "usual.jsonl")) == wanted


def test_a_turn_that_is_read_as_several_keeps_its_place_in_findings(tmp_path: Path) -> None:
    turns = [ASKED, parts(use()), parts(result(), text(" And at night? "), role="user"), {**END, "content": " Black."}]
    data, result_ = load({"messages": turns, **ANTHROPIC, "system": [text("Be brief."), text("Be kind.")]}, tmp_path)
    assert shown(data)[0] == "system Be brief.\n\nBe kind."
    found = [one.pointer for one in result_.diagnostics if one.code == "edge-whitespace"]
    assert found == ["/messages/2/content", "/messages/3/content"]


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        ([{"type": "document", "source": {}}], "bad-part", "'document'"),
        ([{"type": "redacted_thinking", "data": "x"}, text("Blue.")], "bad-part", "'redacted_thinking'"),
        ([use(), text("Blue.")], "bad-part", "follows text or calls"),
        ([text("Blue."), THINKING], "bad-part", "follows text or calls"),
        ([{"type": "thinking", "thinking": 1}, text("Blue.")], "bad-reasoning", "has no text"),
        ([use(name=None)], "bad-tool-call", "has no function name"),
    ],
)
def test_unsupported_parts_are_reported(content: Any, code: str, says: str, tmp_path: Path) -> None:
    _, found = load({"messages": [ASKED, parts(*content)]}, tmp_path)
    assert found.rejected == 1
    assert any(one.code == code and says in one.message for one in found.diagnostics), found.diagnostics


@pytest.mark.parametrize("call", ["<tool_call>sky()</tool_call>", CALL + " Wait.", CALL + CALL[:-1]])
def test_an_unreadable_call_in_a_text_is_reported(call: str, tmp_path: Path) -> None:
    turns = [ASKED, {**END, "content": call}, {"role": "tool", "content": "gray"}, END]
    _, found = load({"messages": turns}, tmp_path)
    assert [one.pointer for one in found.diagnostics if one.code == "bad-tool-call"] == ["/messages/1/content"]


@pytest.mark.parametrize("said", ["[sky(town='Oslo')]", '[TOOL_CALLS] [{"name": "sky", "arguments": {}}]'])
def test_a_call_in_an_unsupported_notation_is_reported(said: str, tmp_path: Path) -> None:
    _, found = load(
        {"messages": [ASKED, {**END, "content": said}, {"role": "ipython", "content": "gray"}, END]}, tmp_path
    )
    [one] = [one for one in found.diagnostics if one.code == "tool-answer-without-call"]
    assert "Other notations of a call" in one.remedy


def test_a_text_with_a_chat_template_is_not_suggested_as_plain_text(tmp_path: Path) -> None:
    _, found = load({"text": "<|im_start|>user\nColor?<|im_end|>"}, tmp_path)
    assert "special tokens of a chat template" in str(found.diagnostics[0])


def test_choices_that_are_left_out_are_a_warning(tmp_path: Path) -> None:
    _, found = load({"question": "Color?", "choices": ["Blue", "Red"], "answer": "A"}, tmp_path)
    assert found.counts["context-column-unused"] == 1


PAIR = {"chosen": "Blue.", "rejected": "Red."}
PROMPTS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "Color?", **PAIR}, "Color?"),
    ({"question": "Color?", **PAIR}, "Color?"),
    ({"input": "Color?", **PAIR}, "Color?"),
    ({"instruction": "Color?", "input": "Of the sky.", **PAIR}, "Color?\n\nOf the sky."),
    ({"question": "Color?", "context": ["At noon."], **PAIR}, "Color?\n\nAt noon."),
    (
        {
            "conversations": [{"from": "human", "value": "Color?"}],
            "chosen": {"from": "gpt", "value": "Blue."},
            "rejected": {"from": "gpt", "value": "Red."},
        },
        "Color?",
    ),
    ({"chosen": "Human: Color?\n\nAssistant: Blue.", "rejected": "Human: Color?\n\nAssistant: Red."}, "Color?"),
    ({"prompt": [ASKED], "chosen": END, "rejected": {**END, "content": "Red."}}, "Color?"),
]


@pytest.mark.parametrize(("row", "prompt"), PROMPTS)
def test_the_prompt_of_a_pair_is_found(row: dict[str, Any], prompt: str, tmp_path: Path) -> None:
    data, found = load(row, tmp_path)
    assert found.ok, [str(one) for one in found.diagnostics]
    assert "unused-columns" not in found.counts
    [pair] = data
    assert isinstance(pair, Preference)
    assert [one.text for one in (*pair.prompt, *pair.chosen, *pair.rejected)] == [prompt, "Blue.", "Red."]


CONTEXTS: list[tuple[Any, str]] = [
    ({"title": ["A", "B"], "sentences": [["A is.", " A was."], ["B is."]]}, "A\nA is. A was.\n\nB\nB is."),
    ([["A", ["A is.", "A was."]], ["B", ["B is."]]], "A\nA is. A was.\n\nB\nB is."),
    (["One.", "Two."], "One.\n\nTwo."),
    ([{"title": "A", "text": "A is."}, {"title": "B", "text": "B is."}], "A\nA is.\n\nB\nB is."),
    ([{"id": 1, "score": 0.5, "text": "A is."}], "A is."),
    ({"contexts": ["One.", "Two."], "labels": ["x", "y"]}, "One.\n\nTwo."),
    ({"price": 3, "text": "A is."}, '{"price": 3, "text": "A is."}'),
    ({"ø": [1, None]}, '{"ø": [1, null]}'),
]


@pytest.mark.parametrize(("context", "wanted"), CONTEXTS)
def test_a_list_or_object_as_context_is_read_as_text(context: Any, wanted: str, tmp_path: Path) -> None:
    data, found = load({"question": "Q?", "answer": "Yes.", "context": context}, tmp_path)
    assert found.counts["read-as-text"] == 1
    assert shown(data) == [f"user Q?\n\n{wanted}", "assistant Yes."]
    data, _ = load({"instruction": "Q?", "output": "Yes.", "input": context}, tmp_path)
    assert shown(data) == [f"user Q?\n\n{wanted}", "assistant Yes."]


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [({"text": ["Oslo", "Oslo"], "answer_start": [1, 1]}, "Oslo"), (["Oslo", "In Oslo"], "Oslo"), ({"text": []}, None)],
)
def test_the_first_of_several_answers_is_learned(answers: Any, wanted: str | None, tmp_path: Path) -> None:
    data, found = load({"question": "Where?", "answers": answers, "context": "It is in Oslo."}, tmp_path)
    if wanted is None:
        assert found.counts["missing-value"] == 1
    else:
        assert shown(data)[-1] == f"assistant {wanted}"


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"Frage": "Farbe?", "Antwort": "Blau."}, {"question": "Frage", "answer": "Antwort"}),
        ({"ask": "Color?", "response_j": "Blue.", "response_k": "Red."},
         {"prompt": "ask", "chosen": "response_j", "rejected": "response_k"}),
        ({"dialog": [ASKED, END], "id": 3}, {"messages": "dialog"}),
        ({"text": "All of it."}, {"completion": "text"}),
    ],
)  # fmt: skip
def test_columns_with_other_names_are_suggested_and_the_suggestion_works(
    row: dict[str, Any], columns: dict[str, str], tmp_path: Path
) -> None:
    _, found = load(row, tmp_path)
    [remedy] = [one.remedy for one in found.diagnostics if one.code == "unknown-shape"]
    assert " ".join(f"--column {role}={name}" for role, name in columns.items()) in remedy
    data, found = load(row, tmp_path, columns=columns)
    assert found.ok
    assert isinstance(next(iter(data)), Conversation | Preference | Completion)
