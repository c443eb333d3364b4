"""Which grader is chosen for which answers, and the warning about one that does not fit."""

from __future__ import annotations

import json

import pytest

from answering import ScriptedModel
from tuneport import Conversation, Message
from tuneport.dataset import Completion, Example
from tuneport.evaluate import fit_grader
from tuneport.evaluate.compare import compare_models

ESSAY = "The parcel left our depot on Monday, and the courier will bring it within {} working days."


def asked(*answers: str) -> list[Example]:
    return [
        Conversation((Message("user", f"question {number}"), Message("assistant", answer)))
        for number, answer in enumerate(answers)
    ]


CHOSEN = [
    (["card", "transfer"] * 10, "exact"),
    ([f"label_{number}" for number in range(20)], "exact"),
    (["yes"], "exact"),
    (["0", "1"] * 10, "exact"),
    ([json.dumps({"total": number}) for number in range(20)], "json"),
    (['["a"]', '{"b": 1}'], "json"),
    ([f"{number} + 1 = {number + 1}\n#### {number + 1}" for number in range(20)], "numeric"),
    (["so\n#### $1,200", "thus\n####-3"], "numeric"),
    ([str(number) for number in range(20)], "numeric"),
    ([f"${number},000.50" for number in range(1, 20)], "numeric"),
    ([f"{number}%" for number in range(20)], "numeric"),
    ([f"The town of Bergen {number}" for number in range(20)], "normalized"),
    ([ESSAY.format(number) for number in range(20)], "token_f1"),
    (['{"a": 1}', ESSAY], "token_f1"),
    ([f"line\n{number}" for number in range(20)], "token_f1"),
    ([], "exact"),
]


@pytest.mark.parametrize(("answers", "name"), CHOSEN)
def test_the_grader_is_chosen_by_the_answers(answers: list[str], name: str) -> None:
    fit = fit_grader(asked(*answers))
    assert fit.grader == name
    assert fit.misfit(fit.grader) is None


def test_completions_and_tool_calls_are_read_too() -> None:
    assert fit_grader([Completion("?", ESSAY)]).grader == "token_f1"
    call = {"id": "1", "type": "function", "function": {"name": "rain", "arguments": "{}"}}
    turns = (Message("user", "Rain?"), Message("assistant", tool_calls=[call]))
    assert fit_grader([Conversation(turns)]).grader == "json"


@pytest.mark.parametrize(
    ("named", "answers", "fits"),
    [
        ("exact", [ESSAY], "token_f1"),
        ("normalized", [ESSAY], "token_f1"),
        ("exact", ["so\n#### 3"], "numeric"),
        ("contains", ["so\n#### 3"], "numeric"),
        ("exact", ['{"a": 1}'], "json"),
    ],
)
def test_a_named_grader_that_does_not_fit_is_used_with_a_warning(named: str, answers: list[str], fits: str) -> None:
    rows = asked(*answers)
    model = ScriptedModel("tuned", lambda asked: "something else")
    found = compare_models(model, None, rows, named)
    assert found.grader == named
    assert found.warning is not None
    assert named in found.warning
    assert fits in found.warning
    assert str(found).index("warning:") < str(found).index("of 1 right")
    for other in (fits, "token_f1", "my:own"):
        assert fit_grader(rows).misfit(other) is None


def test_free_text_is_not_graded_exactly_by_default() -> None:
    rows = asked(*[ESSAY.format(number) for number in range(9)])
    tuned = ScriptedModel("tuned", lambda asked: f"Our courier brings it in {asked[-1]} working days.")
    base = ScriptedModel("base", lambda asked: "I do not know.")
    found = compare_models(tuned, base, rows)
    assert found.grader == "token_f1"
    assert found.base is not None
    assert found.tuned.mean > found.base.mean
    assert found.warning is None
