"""Each grader, with right, wrong and unusual answers."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest

from tuneport import Completion, Conversation, Example, Message, Preference, Reply
from tuneport.errors import DataError, UsageError
from tuneport.evaluate import BUILT_IN, answer_text, grader, prompt_and_reference


def row(reference: str) -> Completion:
    return Completion(prompt="?", completion=reference)


@pytest.mark.parametrize(
    ("name", "reference", "answer", "score"),
    [
        ("exact", "card_arrival", " card_arrival\n", 1),
        ("exact", "card_arrival", "Card_arrival", 0),
        ("exact", "", "", 1),
        ("exact", "", "something", 0),
        ("normalized", "Card arrival", "card_arrival.", 1),
        ("normalized", "don't", "Don’t!", 1),
        ("normalized", "Straße", "STRASSE", 1),
        ("normalized", "ﬁne ½", "fine 1⁄2", 1),
        ("normalized", "-5", "5", 0),
        ("normalized", "-5", "−5", 1),
        ("normalized", "C++", "C", 0),
        ("normalized", "3.14", "314", 0),
        ("normalized", "!!!", "?", 0),
        ("normalized", "", "...", 0),
        ("contains", "Paris", "The capital is PARIS.", 1),
        ("contains", "no", "I do not know", 0),
        ("contains", "no", "Well: no!", 1),
        ("contains", "北京", "首都是北京。", 1),
        ("contains", "a.b", "aXb", 0),
        ("contains", "(x)", "f(x) = 2", 0),
        ("contains", "two  words", "in two\nwords", 1),
        ("contains", "", "", 1),
        ("contains", "", "anything", 0),
        ("token_f1", "the cat sat", "the cat sat", 1),
        ("token_f1", "the cat sat", "a cat sat down", 4 / 7),
        ("token_f1", "a a b", "a", 0.5),
        ("token_f1", "北京", "北京市", 0.8),
        ("token_f1", "", "", 1),
        ("token_f1", "word", "", 0),
        ("json", '{"a": 1, "b": "x"}', '{"b": "x", "a": 1.0}', 1),
        ("json", '{"a": 1, "b": "x"}', '{"a": 1, "b": "y"}', 0.5),
        ("json", '{"a": 1}', '{"a": 1, "extra": 2}', 0.5),
        ("json", '{"a": true}', '{"a": 1}', 0),
        ("json", '{"a": null}', "{}", 0),
        ("json", '{"a": []}', '{"a": {}}', 0),
        ("json", "[1, 2, 3]", "[1, 3, 2]", 1 / 3),
        ("json", '{"a": 1}', '```json\n{"a": 1}\n```', 1),
        ("json", '{"a": 1}', 'Here it is: {"a": 1}', 0),
        ("json", '{"a": 1}', '{"a": NaN}', 0),
        ("json", '{"a": 1}', "[" * 100_000, 0),
        ("json", '{"a": 1}', "9" * 10_000, 0),
        ("numeric", "18", "So it is 18.", 1),
        ("numeric", "9 + 9 = 18\n#### 18", "They pay $18.00 in 7 days.\n#### 18 dollars, not 9", 1),
        ("numeric", "#### 1,234", "1234", 1),
        ("numeric", "-3.5", "x = −3.5", 1),
        ("numeric", "3", "2-3", 1),
        ("numeric", ".5", "0.5", 1),
        ("numeric", "1e3", "1000", 1),
        ("numeric", "-$20", "minus: -$20", 1),
        ("numeric", "18", "eighteen", 0),
        ("numeric", "18", "", 0),
        ("numeric", "18", "9" * 400, 0),
    ],
)
def test_a_grader_scores(name: str, reference: str, answer: str, score: float) -> None:
    assert grader(name)(row(reference), answer) == pytest.approx(score)


def test_every_built_in_grader_gives_1_to_the_reference() -> None:
    for name in BUILT_IN:
        assert grader(name).rehearse([row('{"total": 18}'), row("18")]) == 1.0


@pytest.mark.parametrize(
    ("name", "options", "answer", "score"),
    [
        ("json", {"strict": True}, '{"a": 1, "b": 3}', 0),
        ("json", {"strict": True}, '{"b": 2, "a": 1}', 1),
        ("numeric", {"tolerance": 0.5}, "b is 3", 1),
        ("numeric", {"tolerance": 0.1}, "b is 3", 0),
    ],
)
def test_a_grader_takes_its_own_options(name: str, options: dict[str, float], answer: str, score: float) -> None:
    assert grader(name, **options)(row('{"a": 1, "b": 2}'), answer) == score


@pytest.mark.parametrize(("name", "reference"), [("json", "not JSON"), ("numeric", "no number")])
def test_a_reference_that_a_grader_cannot_read_is_a_data_error(name: str, reference: str) -> None:
    with pytest.raises(DataError, match="Use another grader"):
        grader(name).rehearse([row(reference)])


def test_unknown_names_and_options_are_reported_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no grader 'exacct'.\nDid you mean exact\? The graders are exact, norm"):
        grader("exacct")
    with pytest.raises(UsageError, match=r"has no option 'tolarance'.\nIts options are: tolerance"):
        grader("numeric", tolarance=1)
    with pytest.raises(UsageError, match="has no options"):
        grader("exact", strict=True)


# A user's own


def own(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str, name: str = "own_grader") -> None:
    (folder / f"{name}.py").write_text(body)
    monkeypatch.chdir(folder)


def test_a_function_of_the_working_folder_is_a_grader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own(tmp_path, monkeypatch, "def length(example, answer):\n    return len(answer) / 10\n", "own_grader_a")
    found = grader("own_grader_a:length")
    assert (found.name, found(row("x"), "12345")) == ("own_grader_a:length", 0.5)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("own_grader_b.py:score", "names a file, not a module"),
        ("./own_grader_b:score", "names a file, not a module"),
        ("own_grader_b:missing", "does not define 'missing'"),
        ("no_such_module_here:score", "there is no module 'no_such_module_here'"),
        ("own_grader_b:number", "is not a function but a int"),
        ("own_grader_b:", "cannot be imported"),
        (":score", "cannot be imported"),
    ],
)
def test_the_error_of_a_missing_function_says_how_to_write_it(
    which: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(tmp_path, monkeypatch, "number = 3\n", "own_grader_b")
    with pytest.raises(UsageError, match=message) as caught:
        grader(which).load()
    assert "module:function" in str(caught.value)


def test_a_module_that_fails_on_import_says_what_to_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own(tmp_path, monkeypatch, "1 / 0\ndef score(example, answer): return 1\n", "own_grader_c")
    found = grader("own_grader_c:score")
    with pytest.raises(UsageError, match=r'ZeroDivisionError(.|\n)*python -c "import own_grader_c"'):
        found.load()


@pytest.mark.parametrize(
    ("which", "body"),
    [
        ("score", "def score(example, answer): return 1"),
        ("score", "try:\n    from x import score\nexcept ImportError:\n    score = None"),
        ("score", "from x import *"),
        ("score", "if True:\n    score = other = len"),
        ("score", "def __getattr__(name): return len"),
        ("Judge.score", "class Judge:\n    def score(self): pass"),
        ("Judge.score", "class Judge(Base): pass"),
    ],
)
def test_a_function_is_found_without_running_its_module_or_the_package_around_it(
    which: str, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "ran"
    runs = f"open({str(canary)!r}, 'w')\n"
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text(runs)
    own(package, monkeypatch, f"{runs}{body}\n", "inner")
    monkeypatch.chdir(tmp_path)
    assert grader(f"own_package.inner:{which}").runs_own_code
    with pytest.raises(UsageError, match="does not define 'absent'"):
        grader("own_package:absent")
    assert not canary.exists()


@pytest.mark.parametrize("score", [1.2, -0.1, math.nan, "1", None])
def test_a_score_must_be_a_number_from_0_to_1(score: object) -> None:
    with pytest.raises(UsageError, match="returned"):
        grader(lambda example, answer: score)(row("x"), "y")  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("score", [True, 0, 0.25, Fraction(1, 2)])
def test_any_kind_of_number_is_a_score(score: float) -> None:
    graded = grader(lambda example, answer: score)(row("x"), "y")
    assert (type(graded), graded) == (float, float(score))


def test_a_grader_that_fails_is_named_with_its_error() -> None:
    def broken(example: Example, answer: str) -> float:
        raise KeyError("total")

    with pytest.raises(UsageError, match=r"broken raised KeyError: 'total'") as caught:
        grader(broken)(row("x"), "y")
    assert isinstance(caught.value.__cause__, KeyError)


# Prompts and references


def test_a_conversation_is_asked_up_to_its_last_assistant_turn() -> None:
    talk = Conversation(
        (
            Message("system", "Be brief."),
            Message("user", "One?"),
            Message("assistant", "1", weight=0),
            Message("user", "Two?"),
            Message("assistant", "2", weight=1),
            Message("user", "Thanks"),
        )
    )
    asked, wanted = prompt_and_reference(talk)
    assert ([turn.role for turn in asked], wanted) == (["system", "user", "assistant", "user"], "2")
    assert all(turn.weight is None for turn in asked)


def test_a_last_turn_with_weight_0_is_not_the_reference() -> None:
    turns = (Message("user", "a"), Message("assistant", "A"), Message("user", "b"), Message("assistant", "B", weight=0))
    assert prompt_and_reference(Conversation(turns))[1] == "A"
    assert prompt_and_reference(Conversation((Message("user", "b"), Message("assistant", "B", weight=0))))[1] == "B"


def test_the_reference_is_the_chosen_answer_or_the_completion() -> None:
    pair = Preference((Message("user", "q"),), (Message("assistant", "good"),), (Message("assistant", "bad"),))
    assert prompt_and_reference(pair) == ([Message("user", "q")], "good")
    assert prompt_and_reference(Completion("Once", " again")) == ([Message("user", "Once")], " again")


def test_no_assistant_turn_is_an_error_with_a_remedy() -> None:
    with pytest.raises(DataError, match=r"no assistant turn(.|\n)*tuneport check"):
        prompt_and_reference(Conversation((Message("user", "hello"),)))


def test_tool_calls_are_compared_without_ids_and_in_any_order_of_keys() -> None:
    def call(name: str, arguments: str) -> dict[str, object]:
        return {"id": name + "7", "type": "function", "function": {"name": "find", "arguments": arguments}}

    talk = Conversation(
        (Message("user", "q"), Message("assistant", tool_calls=[call("a", '{"city": "Zürich", "days": 2}')]))
    )
    reply = Reply(text="", tool_calls=(call("b", '{"days":2,"city":"Z\\u00fcrich"}'),))
    assert prompt_and_reference(talk)[1] == '[{"arguments": {"city": "Zürich", "days": 2}, "name": "find"}]'
    assert grader("exact")(talk, answer_text(reply)) == 1
    assert grader("json")(talk, answer_text(Reply(text="", tool_calls=(call("c", '{"days": 2}'),)))) == 2 / 3
    assert grader("json")(talk, answer_text(Reply(text="", tool_calls=(call("c", "{broken"),)))) < 1
