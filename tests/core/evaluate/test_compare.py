"""Two models on the same rows: asked in order, counted correctly, in bounded memory."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from answering import ContinuingModel, ScriptedModel
from tuneport import Comparison, Completion, Conversation, Example, Lineage, Message, Reply
from tuneport.errors import DataError
from tuneport.evaluate import compare_models

TRUTH = {f"question {number}": "yes" if number % 3 else "no" for number in range(200)}
HOLDOUT: list[Example] = [Conversation((Message("user", q), Message("assistant", a))) for q, a in TRUTH.items()]


def always(text: str) -> ScriptedModel:
    return ScriptedModel(f"always-{text}", lambda asked: text)


def oracle(wrong: tuple[str, ...] = ()) -> ScriptedModel:
    return ScriptedModel("oracle", lambda asked: "perhaps" if asked in wrong else TRUTH[asked])


def test_rows_are_counted_by_which_model_is_right() -> None:
    found = compare_models(oracle(wrong=("question 1", "question 3")), always("yes"), HOLDOUT)
    assert found.outcomes == {"both": 132, "only_tuned": 66, "only_base": 1, "neither": 1}
    assert found.base is not None
    assert (found.rows, found.tuned.right, found.base.right) == (200, 198, 133)
    assert found.tuned.mean == 0.99
    assert found.difference is not None
    assert (found.difference.better, found.difference.worse) == (66, 1)
    assert found.difference.low > 0.2
    assert found.difference.p_value < 1e-9


def test_the_kept_rows_are_limited_per_outcome_and_have_their_texts() -> None:
    found = compare_models(oracle(wrong=("question 1",)), always("yes"), HOLDOUT, keep=5)
    assert [row.outcome for row in found.examples].count("only_tuned") == 5
    assert found.outcomes["only_tuned"] == 67
    lost = next(row for row in found.examples if row.outcome == "only_base")
    assert (lost.row, lost.prompt, lost.reference, lost.base, lost.tuned) == (2, "question 1", "yes", "yes", "perhaps")
    assert (lost.base_score, lost.tuned_score) == (1.0, 0.0)


def test_a_model_is_asked_in_bounded_chunks_in_order_and_greedily() -> None:
    tuned = oracle()
    compare_models(tuned, None, HOLDOUT, max_tokens=7)
    assert tuned.largest_call <= 64
    assert [prompt[-1].text for prompt, _ in tuned.asked] == list(TRUTH)
    assert {(options.max_tokens, options.temperature) for _, options in tuned.asked} == {(7, 0.0)}


def test_without_a_base_there_is_no_difference() -> None:
    found = compare_models(oracle(wrong=("question 1",)), None, HOLDOUT)
    assert (found.base, found.difference) == (None, None)
    assert found.outcomes == {"right": 199, "wrong": 1}
    assert [row.outcome for row in found.examples] == ["wrong"]
    assert "base" not in str(found)
    assert "model     99.5%" in str(found)


def test_progress_is_reported_for_both_sides() -> None:
    calls: list[tuple[int, int, str]] = []
    compare_models(oracle(), always("no"), HOLDOUT, progress=lambda *args: calls.append(args))
    assert [done for done, _, side in calls if side == "base"] == [0, 64, 128, 192, 200]
    assert calls[-1] == (200, 200, "tuned")


def test_the_base_is_closed_before_the_tuned_model_answers() -> None:
    base = always("no")
    tuned = ScriptedModel("tuned", lambda asked: "yes" if base.closed else "too early")
    assert "too early" not in [row.tuned for row in compare_models(tuned, base, HOLDOUT).examples]


def test_a_model_may_be_compared_with_itself() -> None:
    same = oracle()
    found = compare_models(same, same, HOLDOUT)
    assert (found.outcomes["both"], same.closed) == (200, False)


def test_labels_are_listed_weakest_first_with_their_usual_mistake() -> None:
    found = compare_models(always("yes"), oracle(), HOLDOUT)
    assert [(one.label, one.rows, one.tuned_right, one.base_right) for one in found.labels] == [
        ("no", 67, 0, 67),
        ("yes", 133, 133, 133),
    ]
    assert (found.labels[0].mistaken_for, found.labels[0].mistakes) == ("yes", 67)


@pytest.mark.parametrize("answer", ["a text of its own, number {}", "{}\nlines", "{}" + "x" * 100])
def test_free_texts_are_not_labels(answer: str) -> None:
    rows: list[Example] = [Completion(f"p{n}", answer.format(n)) for n in range(30)]
    assert compare_models(always("?"), None, rows).labels == ()


def test_partial_scores_are_averaged_and_only_1_is_right() -> None:
    rows: list[Example] = [Completion("p", "one two three")] * 40
    found = compare_models(always("one two"), always("four"), rows, "token_f1")
    assert found.tuned.mean == pytest.approx(0.8)
    assert (found.tuned.right, found.outcomes["neither"]) == (0, 40)
    assert found.difference is not None
    assert found.difference.better == 40
    assert "neither right 40 · better 40 · worse 0" in str(found)


def test_no_rows_is_an_error_with_a_remedy() -> None:
    with pytest.raises(DataError, match=r"no rows to compare on(.|\n)*data.holdout: 0.1"):
        compare_models(oracle(), None, [])


def test_there_is_room_for_the_longest_reference() -> None:
    assert compare_models(always("?"), None, [Completion("p", "x" * 400)]).max_tokens == 216
    assert compare_models(always("?"), None, [Completion("p", "x")]).max_tokens == 32
    assert compare_models(always("?"), None, [Completion("p", "x" * 10**6)]).max_tokens == 1024


def test_truncated_answers_and_few_rows_are_noted() -> None:
    cut = ScriptedModel("cut", lambda asked: Reply(text="and so on", finish_reason="length"))
    found = compare_models(cut, None, HOLDOUT[:5])
    assert found.tuned.cut == 5
    assert any("truncated at 32 tokens" in note for note in found.notes)
    assert any("5 rows are few" in note for note in found.notes)


def test_tools_are_sent_with_their_rows_and_the_order_stays() -> None:
    tool = {"type": "function", "function": {"name": "find"}}
    rows: list[Example] = [
        Conversation((Message("user", f"q{n}"), Message("assistant", f"a{n}")), tools=(tool,) if n % 2 else ())
        for n in range(10)
    ]
    model = ScriptedModel("tools", lambda asked: asked.replace("q", "a"))
    assert compare_models(model, None, rows).tuned.right == 10
    assert {bool(options.tools) for prompt, options in model.asked if int(prompt[0].text[1:]) % 2} == {True}
    assert {bool(options.tools) for prompt, options in model.asked if not int(prompt[0].text[1:]) % 2} == {False}


def test_completions_are_continued_as_they_are_where_the_model_can() -> None:
    lineage = Lineage(base="b", job="j", data_fingerprint="f", created="now", system="Be brief.")
    rows: list[Example] = [Completion("Once there", " was")]
    chat, plain = ScriptedModel("chat", str), ContinuingModel("plain", str)
    for model in (chat, plain):
        model.lineage = lineage
        compare_models(model, None, rows)
    (asked_chat, options_chat), (asked_plain, options_plain) = chat.asked[0], plain.asked[0]
    assert ([turn.role for turn in asked_chat], options_chat.raw) == (["system", "user"], False)
    assert ([turn.role for turn in asked_plain], options_plain.raw) == (["user"], True)


def test_a_comparison_survives_json() -> None:
    found = compare_models(oracle(wrong=("question 1",)), always("yes"), HOLDOUT)
    assert Comparison.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    alone = replace(found, base=None, difference=None)
    assert Comparison.from_dict(json.loads(json.dumps(alone.to_dict()))) == alone


def test_the_text_has_scores_counts_and_rows_and_cannot_control_the_terminal() -> None:
    rude = ScriptedModel(
        "rude", lambda asked: "\x1b[2J\x1b]0;title\x07\nyes" if asked == "question 1" else TRUTH[asked]
    )
    text = str(compare_models(rude, always("yes"), HOLDOUT))
    assert "200 holdout rows, graded by exact" in text
    assert "tuned     99.5%  (97.2% to 99.9%)    199 of 200 right   scripted:rude" in text
    assert "both right 132 · only tuned right 67 · only base right 1 · neither right 0" in text
    assert "row 2: only base right" in text
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_lone_surrogates_and_huge_answers_are_harmless() -> None:
    odd = ScriptedModel("odd", lambda asked: "\ud800" + "x" * 100_000)
    found = compare_models(oracle(), odd, HOLDOUT[:3], keep=3)
    assert found.examples[0].base is not None
    assert found.examples[0].base.endswith("… (96,001 more characters)")
    str(found).encode("utf-8")
