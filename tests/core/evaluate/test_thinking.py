"""Answers and references are graded without their thinking."""

from __future__ import annotations

import pytest

from answering import ScriptedModel
from tuneport import Conversation, Message, Reply, compare
from tuneport.evaluate.compare import answer_room
from tuneport.evaluate.exchange import after_thinking, answer_text, prompt_and_reference


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>\n\n</think>\n\ncard", "card"),
        ("\n<think>a card</think>card", "card"),
        ("card", "card"),
        ("Write <think>x</think> first", "Write <think>x</think> first"),
        ("<think>no end", "<think>no end"),
        ("<think>all there is</think>", "<think>all there is</think>"),
        ("<think>a</think>b</think>c", "b</think>c"),
    ],
)
def test_a_leading_thinking_block_is_removed(text: str, answer: str) -> None:
    assert after_thinking(text) == answer
    assert answer_text(Reply(text=text)) == answer
    assert prompt_and_reference(Conversation((Message("user", "?"), Message("assistant", text))))[1] == answer


@pytest.mark.parametrize(("grader", "text"), [("exact", "card"), ("json", '{"label": "card"}')])
def test_graders_ignore_thinking_in_reference_and_reply(grader: str, text: str) -> None:
    rows = [
        Conversation((Message("user", f"{n}"), Message("assistant", f"<think>\nIt says {n}.\n</think>\n\n{text}")))
        for n in range(4)
    ]
    other = ScriptedModel("other", lambda asked: f"<think>\nHm, {asked}.\n</think>\n\n{text}")
    found = compare(other, rows, base=None, grader=grader)
    assert found.tuned.mean == 1.0
    wrong = ScriptedModel("wrong", lambda asked: f"<think>\n{text}?\n</think>\n\npin")
    found = compare(wrong, rows, base=None, grader=grader)
    assert found.tuned.mean == 0.0
    assert {(one.reference, one.tuned) for one in found.examples} == {(text, "pin")}


def test_there_is_room_for_the_thinking_of_the_rows() -> None:
    asked = Message("user", "?")
    plain = Conversation((asked, Message("assistant", "4")))
    thought = Conversation((asked, Message("assistant", "4", reasoning_content="so " * 200)))
    inline = Conversation((asked, Message("assistant", f"<think>{'so ' * 200}</think>4")))
    assert answer_room([plain]) == 32
    assert answer_room([thought]) > 300
    assert answer_room([inline]) > 300


def test_thinking_may_come_under_any_key_of_a_message() -> None:
    model = ScriptedModel("any", lambda asked: asked)
    for key in ("reasoning_content", "reasoning", "thinking"):
        model.reply([{"role": "assistant", "content": "4", key: "Add."}, {"role": "user", "content": "And?"}])
        assert model.asked[-1][0][0].reasoning_content == "Add."
