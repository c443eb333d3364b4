"""A preview shows what is trained on, with and without colour, and does not let a row steer the terminal."""

from __future__ import annotations

import pytest

from tuneport import UnavailableError
from tuneport.dataset.example import Completion, Example
from tuneport.dataset.preview import coloured, plain, preview
from tuneport.dataset.profile import DataProfile, Piece

PIECES = [Piece("<user>hi", 0, 3), Piece("hel", 1, 1), Piece("lo<end>", 1, 2), Piece("\n", 0, 1)]


def test_what_is_trained_on_stands_in_brackets() -> None:
    assert plain(PIECES) == "<user>hi⟦hello<end>⟧\n\n3 of 7 tokens are trained on"


def test_colour_marks_the_same_text() -> None:
    text = coloured(PIECES)
    assert text.plain == "<user>hihello<end>\n\n3 of 7 tokens are trained on"
    assert [text.plain[span.start : span.end] for span in text.spans if "green" in str(span.style)] == ["hello<end>"]


def test_control_characters_are_shown_and_not_sent_to_the_terminal() -> None:
    hostile = [Piece("\x1b[2Jgone\r\x7f\x9b\u202e", 1, 1)]
    assert plain(hostile).startswith("⟦␛[2Jgone␍␡\\u009b\\u202e⟧")
    assert "\x1b" not in coloured(hostile).plain


def test_the_first_rows_are_shown() -> None:
    def show(example: Example) -> list[Piece]:
        assert isinstance(example, Completion)
        return [Piece(example.prompt, 0, 1), Piece(example.completion, 1, 1)]

    rows = (Completion(str(index), "x") for index in range(10))
    assert [pieces[0].text for pieces in preview(rows, DataProfile(preview=show), 2)] == ["0", "1"]


def test_a_backend_without_a_tokenizer_says_so() -> None:
    with pytest.raises(UnavailableError, match="tuneport plugins"):
        preview([], DataProfile())
