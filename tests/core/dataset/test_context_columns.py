"""Columns that change the meaning of a question and its answer are used or reported; ratings are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneport import Completion, Conversation, Dataset, Preference
from tuneport.plugin import DataRules

HISTORY = [["Who wrote it?", "Ibsen."], ["When?", "In 1879."]]
ASKED = {
    "instruction/output": {"instruction": "Where?", "output": "In Rome."},
    "question/answer": {"question": "Where?", "answer": "In Rome."},
    "prompt/completion": {"prompt": "Where?", "completion": "In Rome."},
    "text/label": {"text": "Where?", "label": "In Rome."},
    "messages": {"messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "In Rome."}]},
    "conversations": {"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "In Rome."}]},
    "list prompt": {
        "prompt": [{"role": "user", "content": "Where?"}],
        "completion": [{"role": "assistant", "content": "In Rome."}],
    },
}
EARLIER = [("user", "Who wrote it?"), ("assistant", "Ibsen."), ("user", "When?"), ("assistant", "In 1879.")]
LAST = [("user", "Where?"), ("assistant", "In Rome.")]


def turns(row: dict[str, Any]) -> list[tuple[str, str]]:
    [example] = Dataset.load([row])
    assert isinstance(example, Conversation)
    return [(message.role, message.text) for message in example.messages]


@pytest.mark.parametrize("row", ASKED.values(), ids=ASKED)
def test_a_column_of_system_prompts_is_used_with_any_question(row: dict[str, Any], tmp_path: Path) -> None:
    for name in ("system", "system_prompt"):
        assert turns(row | {name: "Be brief."}) == [("system", "Be brief."), *LAST]
    (tmp_path / "rows.jsonl").write_text(json.dumps(row | {"system": "Be brief."}) + "\n", encoding="utf-8")
    assert "read-as-context" in Dataset.load(tmp_path / "rows.jsonl").check().counts


@pytest.mark.parametrize("row", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize(
    "history",
    [
        HISTORY,
        json.dumps(HISTORY),
        [text for pair in HISTORY for text in pair],
        [{"role": role, "content": text} for role, text in EARLIER],
        [{"from": "human" if role == "user" else "gpt", "value": text} for role, text in EARLIER],
        [{"user": asked, "assistant": answered} for asked, answered in HISTORY],
    ],
)
def test_earlier_turns_come_before_the_question(row: dict[str, Any], history: Any) -> None:
    assert turns(row | {"history": history}) == [*EARLIER, *LAST]
    assert turns(row | {"history": history, "system": "Be brief."}) == [("system", "Be brief."), *EARLIER, *LAST]
    for nothing in ([], None, ""):
        assert turns(row | {"history": nothing, "system": "Be brief."}) == [("system", "Be brief."), *LAST]


@pytest.mark.parametrize("history", ["We spoke of Ibsen.", [["one"]], [1, 2], ["odd"], {"a": 1}])
def test_a_history_that_cannot_be_read_is_an_error_with_a_way_to_use_it(history: Any) -> None:
    rows = [ASKED["question/answer"] | {"history": history}]
    [found] = [one for one in Dataset.load(rows).check().diagnostics if one.severity == "error" and one.line]
    assert (found.code, found.pointer) == ("bad-history", "/history")
    assert "context=history" in found.remedy
    if isinstance(history, str):
        [example] = Dataset.load(rows, columns={"context": "history", "question": "question", "answer": "answer"})
        assert isinstance(example, Conversation)
        assert example.messages[0].text == f"Where?\n\n{history}"


def test_context_follows_a_question_and_precedes_plain_text() -> None:
    for shape in ("question/answer", "text/label", "instruction/output"):
        for name in ("context", "passage"):
            assert turns(ASKED[shape] | {name: "He lived there."})[0] == ("user", "Where?\n\nHe lived there.")
    assert turns(ASKED["question/answer"] | {"context": ["One.", "Two."]})[0][1] == "Where?\n\nOne.\n\nTwo."
    both = ASKED["instruction/output"] | {"input": "In a word.", "context": "He lived there."}
    assert turns(both)[0][1] == "Where?\n\nIn a word.\n\nHe lived there."
    [plain] = Dataset.load([ASKED["prompt/completion"] | {"context": "He lived there."}])
    assert plain == Completion("He lived there.\n\nWhere?", "In Rome.")


def test_findings_in_turns_after_added_ones_keep_their_place() -> None:
    row = {"system": "Be brief.", "history": [["Who? ", "Ibsen."]], "question": "Where? ", "answer": " In Rome."}
    found = Dataset.load([row]).check().diagnostics
    assert [one.pointer for one in found if one.code == "edge-whitespace"] == ["/history", "/question", "/answer"]


def test_a_pair_takes_its_system_prompt_from_a_column() -> None:
    [pair] = Dataset.load([{"system": "Be brief.", "prompt": "Where?", "chosen": "Rome.", "rejected": "Well, Rome."}])
    assert isinstance(pair, Preference)
    assert [turn.role for turn in pair.prompt] == ["system", "user"]


@pytest.mark.parametrize("name", ["documents", "retrieved_documents", "dialogHistory", "Persona", "images", "thinking"])
def test_a_column_that_may_change_the_meaning_is_a_warning(name: str) -> None:
    result = Dataset.load([ASKED["question/answer"] | {name: "x", "id": 1}]).check()
    found = {one.code: one for one in result.diagnostics}
    assert found["context-column-unused"].severity == "warning"
    assert name in found["context-column-unused"].message
    assert found["unused-columns"].message == "Not used: id."


@pytest.mark.parametrize("name", ["document_id", "image_url", "source", "split", "context_length"])
def test_a_column_about_the_row_is_a_note(name: str) -> None:
    assert "context-column-unused" not in Dataset.load([ASKED["question/answer"] | {name: "x"}]).check().counts


RATED = [
    ASKED["prompt/completion"] | {"label": False},
    ASKED["prompt/completion"] | {"label": 0},
    ASKED["list prompt"] | {"label": False},
    ASKED["messages"] | {"label": True},
    ASKED["messages"] | {"kto_tag": "false"},
    ASKED["instruction/output"] | {"kto_tag": False},
    ASKED["question/answer"] | {"thumbs_up": False},
]


@pytest.mark.parametrize("row", RATED)
def test_a_rated_answer_is_an_error_that_names_its_method(row: dict[str, Any]) -> None:
    result = Dataset.load([row]).check()
    assert not result.used
    [found] = [one for one in result.diagnostics if one.code == "kto-row"]
    assert "KTO" in found.message
    assert "sft" in found.remedy
    assert "dpo" in found.remedy


def test_rated_answers_in_a_table_are_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "rated.csv"
    path.write_text("prompt,completion,label\nWhere?,In Rome.,True\nWhere?,On the moon.,False\n", encoding="utf-8")
    assert Dataset.load(path).check().counts["kto-row"] == 2


def test_a_truth_value_that_is_the_answer_is_learned() -> None:
    assert turns({"text": "Is it red?", "label": True})[1] == ("assistant", "true")
    rows = [ASKED["prompt/completion"] | {"label": name} for name in ("city", "time")]
    assert len(Dataset.load(rows)) == 2


def test_plain_text_for_a_model_with_a_template_is_reported_once() -> None:
    rows = [{"prompt": f"{n} + 1 =", "completion": f" {n + 1}"} for n in range(60)]
    instruct, plain = (DataRules(has_template=lambda yes=yes: yes) for yes in (True, False))
    [found] = [one for one in Dataset.load(rows).check(instruct).diagnostics if one.code == "plain-text"]
    assert found.severity == "warning"
    assert "--column question=prompt --column answer=completion" in found.remedy
    assert "plain-text" not in Dataset.load(rows).check(plain).counts
    columns = {"question": "prompt", "answer": "completion"}
    as_turns = Dataset.load(rows, columns=columns)
    assert "plain-text" not in as_turns.check(instruct).counts
    assert all(isinstance(example, Conversation) for example in as_turns)
    assert "template" in " ".join(Dataset.load(rows).readings(instruct))
    assert not Dataset.load(rows).readings(plain)


def test_columns_that_only_later_rows_have_are_used() -> None:
    rows = [ASKED["question/answer"] | {"question": f"Where {n}?"} for n in range(40)]
    rows.append(ASKED["question/answer"] | {"history": HISTORY, "system": "Be brief."})
    last = list(Dataset.load(rows))[-1]
    assert isinstance(last, Conversation)
    assert [(turn.role, turn.text) for turn in last.messages] == [("system", "Be brief."), *EARLIER, *LAST]
    plain = [ASKED["prompt/completion"]] * 40
    assert Dataset.load([*plain, ASKED["prompt/completion"] | {"label": False}]).check().counts["kto-row"] == 1


def test_empty_columns_do_not_make_plain_text_turns() -> None:
    row = ASKED["prompt/completion"]
    [plain] = Dataset.load([row | {"system": None, "history": [], "tools": None, "context": ""}])
    assert plain == Completion("Where?", "In Rome.")
    mixed = [row | {"system": None}, row | {"system": "Be brief."}]
    assert all(isinstance(example, Conversation) for example in Dataset.load(mixed))
