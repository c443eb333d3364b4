"""The checks of all rows together: messages name the other row and give counts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tuneport import CheckResult, Completion, Dataset, Diagnostic, Example
from tuneport.plugin import DataRules


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path / "home"))


def rows(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"text": text, "label": label} for text, label in pairs]


def check(given: object, rules: DataRules | None = None, **options: Any) -> CheckResult:
    return Dataset.load(given).check(rules, **options)


def said(result: CheckResult, code: str) -> list[tuple[int | None, str]]:
    return [(one.line, one.message) for one in result.diagnostics if one.code == code]


def test_rows_are_checked_against_the_rules_for_all_rows_together() -> None:
    """Where the text of one row depends on the others, a check sees the same text as training."""

    def together(examples: Iterable[Example]) -> DataRules:
        count = len(list(examples))
        note = Diagnostic(code="of-all", severity="warning", message=f"One of {count} rows.", remedy="None.")
        return DataRules(check_row=lambda example: [note])

    data = Dataset.from_examples([Completion(f"a{number}", "b") for number in range(3)])
    found = data.check(DataRules(together=together))
    assert found.counts["of-all"] == 3
    assert "One of 3 rows." in {one.message for one in found.diagnostics}


def test_a_repeat_names_the_line_of_the_first() -> None:
    result = check(rows(("Hello", "hi"), ("Hello", "hi"), ("HELLO!", "hi"), ("Hello", "bye")))
    assert said(result, "duplicate") == [(2, "The same as line 1.")]
    assert said(result, "near-duplicate") == [(3, "The same as line 1, except for case, white space or punctuation.")]
    assert said(result, "conflicting-answers") == [(4, "The same prompt as on line 1, with another answer.")]
    assert (result.read, result.used) == (4, 4)


def test_line_numbers_count_blank_and_rejected_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps({"text": "Hello", "label": "hi"})
    path.write_text(f"\n{good}\n{{oops\n{good}\n")
    assert said(check(path), "duplicate") == [(4, "The same as line 2.")]


def test_a_leak_names_the_other_file_and_its_line(tmp_path: Path) -> None:
    held_out = tmp_path / "holdout.csv"
    held_out.write_text("text,label\nother,x\nhello,hi\nBye!,hi\n")
    result = check(rows(("Hello", "hi"), ("bye", "bye"), ("new", "x")), against=Dataset.load(held_out))
    assert said(result, "leaked-row") == [(1, f"The same row is in {held_out}, line 3.")]
    assert said(result, "leaked-prompt") == [(2, f"The same prompt is in {held_out}, line 4, with another answer.")]
    assert result.ok


def test_parts_of_a_split_do_not_leak_even_where_rows_are_near_duplicates() -> None:
    data = Dataset.load(
        rows(*((f"{text} {n}", "x") for n in range(40) for text in ("Question", "question", "QUESTION!")))
    )
    train, validation, holdout = data.split(holdout=0.2, validation=0.2)
    for other in (validation, holdout):
        assert not {"leaked-row", "leaked-prompt"} & set(train.check(against=other).counts)


def test_imbalanced_labels_are_reported_with_their_counts() -> None:
    result = check(rows(*((f"a{n}", "refund") for n in range(30)), *((f"b{n}", "lost") for n in range(3))))
    assert said(result, "label-imbalance") == [(None, 'The labels have from 3 to 30 rows: "refund" 30, "lost" 3.')]


def test_the_most_and_least_frequent_of_many_labels_are_shown() -> None:
    result = check(rows(*((f"{label}/{n}", f"label {label}") for label in range(8) for n in range(3 + 9 * label))))
    ((_, message),) = said(result, "label-imbalance")
    assert message == (
        'The labels have from 3 to 66 rows: "label 7" 66, "label 6" 57, "label 5" 48, …, '
        '"label 2" 21, "label 1" 12, "label 0" 3.'
    )


def test_labels_that_differ_in_spelling_are_named_together() -> None:
    pairs = [(f"{n} {label}", label) for label in ("lost_card", "Lost card", "found", "1", "-1") for n in range(9)]
    assert said(check(rows(*pairs)), "label-spellings") == [
        (None, 'These labels differ only in spelling: "Lost card" 9, "lost_card" 9 rows.')
    ]


def test_long_answers_are_not_labels() -> None:
    codes = check([{"question": f"{n}?", "answer": f"It is {n}."} for n in range(60)]).counts
    assert not {"label-imbalance", "single-label", "few-rows"} & set(codes)


def test_a_single_label_is_reported_with_its_name() -> None:
    result = check(rows(*((f"a{n}", "spam") for n in range(60))))
    assert said(result, "single-label") == [(None, 'All 60 rows have the answer "spam".')]


def test_too_few_rows_are_an_error_only_where_the_backend_says_so() -> None:
    few = rows(("a", "b"))
    assert check(few).ok
    result = check(few, DataRules(min_rows=10))
    assert said(result, "too-few-rows") == [(None, "The data has 1 row. The backend requires at least 10.")]
    assert not result.ok


def test_any_number_of_findings_is_counted_and_the_first_are_kept() -> None:
    result = check(rows(*[("Hello", "hi")] * 500))
    assert result.counts["duplicate"] == 499
    assert [line for line, _ in said(result, "duplicate")] == list(range(2, 22))
