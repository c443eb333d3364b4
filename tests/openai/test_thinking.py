"""A served model's reasoning is kept apart from its answer; a check says which server takes reasoning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tuneport
from tuneport import Dataset
from tuneport_openai.start.rules import data_rules, write_rows
from tuneport_openai.wire.profiles import profile
from tuneport_openai.wire.thinking import Splitter
from wire_server import WireServer

ASKED = {"role": "user", "content": "2+2?"}
THOUGHT = {"messages": [ASKED, {"role": "assistant", "content": "4", "thinking": "Two more."}]}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_a_field_next_to_the_answer_is_its_reasoning(lab: WireServer, field: str) -> None:
    lab.models["base"], lab.thinking = {"question": "card"}, (field, "It is a card.")
    model = tuneport.open_model("lab:base")
    reply = model.reply("question")
    assert (reply.text, reply.thinking) == ("card", "It is a card.")
    assert "".join(model.stream("question")) == "card"
    *_, (_, last) = model.stream_many(["question"])
    assert (last.text, last.thinking) == ("card", "It is a card.")


def test_a_block_at_the_start_is_its_thinking(lab: WireServer) -> None:
    lab.models["base"] = {"one": "<think>\nIt is a card.\n</think>\n\ncard", "two": "a <think>b</think>"}
    model = tuneport.open_model("lab:base")
    for asked, text, thinking in (("one", "card", "It is a card."), ("two", "a <think>b</think>", None)):
        reply = model.reply(asked)
        assert (reply.text, reply.thinking) == (text, thinking)
        *pieces, (_, last) = model.stream_many([asked])
        assert "".join(piece for _, piece in pieces) == last.text == text
        assert last.thinking == thinking


@pytest.mark.parametrize(
    ("said", "cut", "answer", "thinking"),
    [
        ("<think>a</think> b", False, "b", "a"),
        (" \n<think>\n</think>\n\n\nb <think>", False, "b <think>", ""),
        ("<thin", False, "<thin", None),
        ("<think>a", True, "", "a"),
        ("<think>a", False, "<think>a", None),
        ("", False, "", None),
    ],
)
def test_pieces_part_alike_wherever_they_are_cut(said: str, cut: bool, answer: str, thinking: str | None) -> None:
    for size in (1, 2, 5, 100):
        splitter = Splitter(inline=True)
        shown = "".join(splitter.feed(said[at : at + size]) for at in range(0, len(said), size))
        assert (shown + splitter.end(cut=cut), splitter.thinking) == (answer, thinking)
    plain = Splitter(inline=False)
    assert (plain.feed(said) + plain.end(cut=cut), plain.thinking) == (said, None)


def test_what_was_thought_is_not_sent_back(lab: WireServer) -> None:
    lab.models["base"] = {"question": "card"}
    model = tuneport.open_model("lab:base")
    model.reply([ASKED, {"role": "assistant", "content": "4", "reasoning": "Two more."}, ASKED])
    sent = json.loads(lab.asked[-1][3])["messages"]
    assert sent == [ASKED, {"role": "assistant", "content": "4"}, ASKED]


@pytest.mark.parametrize("vendor", ["openai", "azure"])
def test_the_vendors_refuse_a_row_with_thinking_before_anything_is_sent(vendor: str) -> None:
    result = Dataset.load([THOUGHT] * 12).check(data_rules(profile(vendor), "gpt-4.1-mini-2025-04-14"))
    assert result.counts["reasoning-not-taken"] == 12
    assert not result.ok


def test_another_server_gets_it_with_a_note(lab: WireServer, tmp_path: Path) -> None:
    result = Dataset.load([THOUGHT]).check(data_rules(profile("lab"), "any"))
    assert {one.severity for one in result.diagnostics if one.code == "reasoning-sent"} == {"note"}
    sent = write_rows(Dataset.load([THOUGHT]), tmp_path)
    row = json.loads(sent.path.read_text())
    assert row["messages"][1] == {"role": "assistant", "content": "4", "reasoning_content": "Two more."}
