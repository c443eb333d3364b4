"""An answer is graded by what stands behind its thinking, and so is what it is compared with."""

from __future__ import annotations

import pytest

from answering import ScriptedModel
from tuneport import Conversation, Message, Reply, compare
from tuneport.evaluate.compare import answer_room
from tuneport.evaluate.exchange import after_thinking, answer_text, prompt_and_reference


@pytest.mark.parametrize(
    ("said", "answer"),
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
def test_the_block_at_the_very_start_is_left_out(said: str, answer: str) -> None:
    assert after_thinking(said) == answer
    assert answer_text(Reply(text=said)) == answer
    assert prompt_and_reference(Conversation((Message("user", "?"), Message("assistant", said))))[1] == answer


@pytest.mark.parametrize(("grader", "said"), [("exact", "card"), ("json", '{"label": "card"}')])
def test_graders_read_the_answer_of_reference_and_reply(grader: str, said: str) -> None:
    rows = [
        Conversation((Message("user", f"{n}"), Message("assistant", f"<think>\nIt says {n}.\n</think>\n\n{said}")))
        for n in range(4)
    ]
    other = ScriptedModel("other", lambda asked: f"<think>\nHm, {asked}.\n</think>\n\n{said}")
    found = compare(other, rows, base=None, grader=grader)
    assert found.tuned.mean == 1.0
    wrong = ScriptedModel("wrong", lambda asked: f"<think>\n{said}?\n</think>\n\npin")
    found = compare(wrong, rows, base=None, grader=grader)
    assert found.tuned.mean == 0.0
    assert {(one.reference, one.tuned) for one in found.examples} == {(said, "pin")}


def test_there_is_room_for_the_thinking_of_the_rows() -> None:
    asked = Message("user", "?")
    plain = Conversation((asked, Message("assistant", "4")))
    thought = Conversation((asked, Message("assistant", "4", reasoning_content="so " * 200)))
    inline = Conversation((asked, Message("assistant", f"<think>{'so ' * 200}</think>4")))
    assert answer_room([plain]) == 32
    assert answer_room([thought]) > 300
    assert answer_room([inline]) > 300


def test_messages_may_bring_it_back_under_any_key() -> None:
    model = ScriptedModel("any", lambda asked: asked)
    for key in ("reasoning_content", "reasoning", "thinking"):
        model.reply([{"role": "assistant", "content": "4", key: "Add."}, {"role": "user", "content": "And?"}])
        assert model.asked[-1][0][0].reasoning_content == "Add."
