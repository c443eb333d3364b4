"""A preview shows what is trained on, with and without color, and no row controls the terminal."""

from __future__ import annotations

import pytest

from tuneport.dataset import Completion, Conversation, DataRules, Example, Message, Piece, Preference
from tuneport.dataset.preview import example_pieces, preview_examples, to_colored_text, to_plain_text
from tuneport.errors import UnavailableError

PIECES = [Piece("<user>hi", 0, 3), Piece("hel", 1, 1), Piece("lo<end>", 1, 2), Piece("\n", 0, 1)]


def test_trained_text_is_in_brackets() -> None:
    assert to_plain_text(PIECES) == "<user>hi⟦hello<end>⟧\n3 of 7 tokens are trained on"


def test_color_marks_the_same_text() -> None:
    text = to_colored_text(PIECES)
    assert text.plain == "<user>hihello<end>\n3 of 7 tokens are trained on"
    assert [text.plain[span.start : span.end] for span in text.spans if "green" in str(span.style)] == ["hello<end>"]


def test_control_characters_are_escaped_before_the_terminal() -> None:
    hostile = [Piece("\x1b[2Jgone\r\x7f\x9b\u202e", 1, 1)]
    assert to_plain_text(hostile).startswith("⟦\\x1b[2Jgone\\r\\x7f\\x9b\\u202e⟧")
    assert "\x1b" not in to_colored_text(hostile).plain


def test_the_first_rows_are_shown() -> None:
    def show(example: Example) -> list[Piece]:
        assert isinstance(example, Completion)
        return [Piece(example.prompt, 0, 1), Piece(example.completion, 1, 1)]

    rows = (Completion(str(index), "x") for index in range(10))
    assert [pieces[0].text for pieces in preview_examples(rows, DataRules(preview=show), 2)] == ["0", "1"]


def test_a_backend_without_a_tokenizer_says_so() -> None:
    with pytest.raises(UnavailableError, match="tuneport plugins"):
        preview_examples([], DataRules())


def test_a_row_can_be_shown_before_a_model_is_chosen() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    row = Conversation(
        messages=(
            Message(role="user", content="Rain?"),
            Message(role="assistant", content="No guess", weight=0),
            Message(role="assistant", tool_calls=[call]),
        ),
        tools=({"type": "function", "function": {"name": "weather", "parameters": {}}},),
    )
    assert to_plain_text(example_pieces(row)).splitlines() == [
        "tools: weather",
        "user: Rain?",
        "assistant: No guess",
        'assistant: ⟦{"id":"1","type":"function","function":{"name":"weather","arguments":"{}"}}⟧',
    ]
    assert to_plain_text(example_pieces(Completion("a", "b"))) == "a⟦b⟧"


def test_the_answers_of_a_preference_are_marked() -> None:
    good, bad = Message(role="assistant", content="good"), Message(role="assistant", content="bad")
    shown = to_plain_text(example_pieces(Preference((Message(role="user", content="q"),), (good,), (bad,))))
    assert shown.splitlines() == ["user: q", "chosen", "assistant: ⟦good⟧", "rejected", "assistant: ⟦-bad-⟧"]
