"""An answer on a terminal while it arrives: complete words on every line, whatever its pieces are."""

from __future__ import annotations

import random

import pytest
from rich.cells import cell_len

from tuneport.terminal.flow import Flow

TEXTS = (
    "The quick brown fox jumps over the lazy dog, and then it goes home to its own den.",
    "# A list\n\n- one thing that is long enough to be broken\n- another\n\n    code = indented(by, four)\n",
    "中文字符没有空格，所以可以在任何地方换行 and then English words, and 日本語 again.",
    "cafe\u0301 re\u0301sume\u0301 🙂 smile 👍🏽 and no word of it is cut",
)


def flowed(text: str, width: int, pieces: random.Random) -> str:
    flow, shown, place = Flow(width), [], 0
    while place < len(text):
        size = pieces.randint(1, 7)
        shown.append(flow.feed(text[place : place + size]))
        place += size
    return "".join(shown) + flow.end()


@pytest.mark.parametrize("width", [14, 20, 60, 80, 100])
@pytest.mark.parametrize("text", TEXTS)
def test_no_line_is_too_long_and_no_word_is_split(text: str, width: int) -> None:
    shown = {flowed(text, width, random.Random(seed)) for seed in range(20)}
    assert len(shown) == 1  # the pieces make no difference
    lines = shown.pop().split("\n")
    assert all(cell_len(line.rstrip()) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
    narrow = [word for word in text.split() if all(cell_len(one) < 2 for one in word)]
    assert [word for line in lines for word in line.split() if all(cell_len(one) < 2 for one in word)] == narrow


def test_a_wide_character_does_not_cross_the_edge() -> None:
    assert flowed("一二三四五六", 5, random.Random(1)) == "一二\n三四\n五六"


def test_a_word_wider_than_a_line_is_shown_before_it_is_complete() -> None:
    flow = Flow(10)
    assert flow.feed("see " + "a" * 25) == "see\n" + "a" * 25
    assert flow.feed(" end") == ""
    assert flow.end() == " end"  # behind the five letters of the third line


def test_text_is_unchanged_if_no_line_has_to_break() -> None:
    text = "\tone  two\n  three \n\n four  "
    assert flowed(text, 80, random.Random(3)) == text.replace(" \n", "\n")
