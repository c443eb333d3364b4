"""Misleading rows are read correctly or reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneport import Dataset
from tuneport.dataset import Completion, Conversation, Preference
from tuneport.errors import UsageError


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


ASKED, ANSWERED, OTHER = turn("user", "Q?"), turn("assistant", "A."), turn("assistant", "B.")


def load(folder: Path, rows: list[dict[str, Any]]) -> Dataset:
    """The rows as JSON lines."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Dataset.load(path)


def table(folder: Path, text: str, suffix: str = ".csv") -> Dataset:
    path = folder / f"rows{suffix}"
    path.write_text(text, encoding="utf-8")
    return Dataset.load(path)


def pairs(data: Dataset) -> list[tuple[str, str]]:
    found = []
    for example in data:
        assert isinstance(example, Conversation)
        found.append((example.messages[-2].text, example.messages[-1].text))
    return found


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("| text | label |\n|:---|---:|\n|a|x|\n", [("a", "x")]),
        ("text,label\na,x\ntext,label\nb,y\n", [("a", "x"), ("b", "y")]),
        (" text | label \n------+-------\n a | x\n", None),
        ("text,label\n====,=====\na,x\n", [("a", "x")]),
        (",text,label\n0,a,x\n,text,label\n1,b,y\n", [("a", "x"), ("b", "y")]),
        ("text,label\n--,x\nlabel,text\n", [("--", "x"), ("label", "text")]),
    ],
)
def test_lines_of_a_table_that_are_not_rows_are_noted(
    text: str, rows: list[tuple[str, str]] | None, tmp_path: Path
) -> None:
    data = table(tmp_path, text)
    found = data.check()
    if rows is None:  # a rule that is one cell: refused, not trained on
        assert found.rejected == 1
        return
    assert pairs(data) == rows
    assert (found.read, found.errors) == (len(rows), 0)


def test_a_sheet_that_names_its_columns_twice_has_no_row_of_names(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["text", "label"], ["a", "x"], ["text", "label"], ["---", "---"], ["Total", 1]):
        book.active.append(row)
    book.save(tmp_path / "rows.xlsx")
    data = Dataset.load(tmp_path / "rows.xlsx")
    assert pairs(data) == [("a", "x"), ("Total", "1")]
    assert data.check().counts["total-line"] == 1


TURNS = json.dumps([ASKED]), json.dumps([ANSWERED]), json.dumps([OTHER])


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": TURNS[0], "completion": TURNS[1]},
        {"prompt": [ASKED], "completion": "A."},
        {"prompt": "Q?", "completion": [ANSWERED]},
    ],
)
def test_turns_in_a_cell_are_turns(row: dict[str, Any], tmp_path: Path) -> None:
    assert pairs(load(tmp_path, [row])) == [("Q?", "A.")]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q?", "chosen": TURNS[1], "rejected": TURNS[2]},
        {"chosen": json.dumps([ASKED, ANSWERED]), "rejected": json.dumps([ASKED, OTHER])},
    ],
)
def test_pairs_in_cells_are_pairs(row: dict[str, Any], tmp_path: Path) -> None:
    (pair,) = load(tmp_path, [row])
    assert isinstance(pair, Preference)
    assert [turns[0].text for turns in (pair.prompt, pair.chosen, pair.rejected)] == ["Q?", "A.", "B."]


def test_a_prompt_that_is_a_log_in_json_stays_text_and_is_named(tmp_path: Path) -> None:
    data = load(tmp_path, [{"prompt": TURNS[0], "completion": "A summary."}])
    (example,) = data
    assert isinstance(example, Completion)
    assert data.check().counts["turns-as-text"] == 1


def test_turns_in_python_notation_are_refused() -> None:
    row = {"prompt": "Q?", "chosen": str([ANSWERED]), "rejected": str([OTHER])}
    assert Dataset.load([row]).check().counts["bad-message"] == 2


def test_answers_may_repeat_the_system_prompt_of_their_row() -> None:
    system = turn("system", "S")
    row = {"system": "S", "prompt": "Q?", "chosen": [system, ASKED, ANSWERED], "rejected": [system, ASKED, OTHER]}
    (pair,) = Dataset.load([row])
    assert isinstance(pair, Preference)
    assert [one.text for one in pair.prompt] == ["S", "Q?"]


@pytest.mark.parametrize("key", ["train", "training", "trainable", "loss"])
@pytest.mark.parametrize("off", [False, 0])
def test_a_turn_that_is_not_trained_on_has_weight_0(key: str, off: Any) -> None:
    turns = [turn("user", "Q?", **{key: False}), turn("assistant", "Bad.", **{key: off}), ASKED, ANSWERED]
    spoken = [
        {"from": one["role"], "value": one["content"], **({key: one[key]} if key in one else {})} for one in turns
    ]
    for row in ({"messages": turns}, {"conversations": spoken}):
        (example,) = Dataset.load([row])
        assert isinstance(example, Conversation)
        assert [one.weight for one in example.messages] == [None, 0, None, None]


@pytest.mark.parametrize("more", [{"mask": True}, {"train": "no"}, {"train": True, "weight": 0}])
def test_an_unsupported_key_that_may_be_a_weight_is_an_error(more: dict[str, Any]) -> None:
    assert "bad-weight" in Dataset.load([{"messages": [ASKED, turn("assistant", "A.", **more)]}]).check().counts


def test_a_late_column_that_changes_what_a_row_means_is_named(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": "A."} for n in range(25)]
    data = load(tmp_path, [*rows, {"question": "Which?", "answer": "A.", "choices": ["A.", "B."], "id": 7}])
    (found,) = [one for one in data.check().diagnostics if one.code == "context-column-unused"]
    assert (found.line, found.pointer) == (26, "/choices")


@pytest.mark.parametrize(
    "columns",
    [("A", "B", "C"), ("sentence2",), ("text_b",), ("user 2",), ("premise",), ("evidence",), ("schema",), ("weight",)],
)
def test_an_unused_column_that_changes_the_meaning_is_a_warning(columns: tuple[str, ...]) -> None:
    row = {"question": "Q?", "answer": "A."} | dict.fromkeys(columns, "x")
    assert Dataset.load([row]).check().counts["context-column-unused"] == 1


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [("feedback", "thumbs up", "thumbs_down"), ("is_correct", True, False), ("rating", 1, -1), ("vote", "up", "down")],
)
def test_answers_rated_bad_are_not_trained_on(column: str, good: Any, bad: Any) -> None:
    rows = [{"question": f"{n}?", "answer": "A.", column: bad if n == 3 else good} for n in range(30)]
    found = Dataset.load(rows).check()
    assert (found.used, found.counts["kto-row"]) == (29, 1)
    about = [{"text": "Bad.", "label": "negative", column: bad}, {"text": "Good.", "label": "positive", column: good}]
    assert Dataset.load(about).check().used == 2


def test_a_tool_answer_stays_as_it_is() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "rain", "arguments": "{}"}}
    asked = [ASKED, {"role": "assistant", "tool_calls": [call]}]
    for answer in ({"mm": 5}, {"text": "dry", "mm": 0}, [{"mm": 5}, {"mm": 6}], [{"text": "dry", "mm": 0}]):
        (example,) = Dataset.load([{"messages": [*asked, turn("tool", answer, tool_call_id="a"), ANSWERED]}])
        assert isinstance(example, Conversation)
        assert json.loads(example.messages[2].text) == answer


@pytest.mark.parametrize("text", ["Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "ä½\xa0å¥½ä¸–ç•Œ", "Îµá¼°Î¼Î¯", "ï»¿A", "caf\xc3\xa9", "×©×œ×•×\x9d"])
def test_mojibake_of_any_script_is_found(text: str, tmp_path: Path) -> None:
    data = load(tmp_path, [{"messages": [turn("user", text), ANSWERED]}])
    assert data.check().counts["mojibake"] == 1


@pytest.mark.parametrize(
    "text", ["« Et voilà\xa0» dit-il", "Ä–Ö", "Œuvre «été»…", "ÅÄÖ – “ÅÄÖ”", "привет", "你好", "Straße ‚ÄÖÜ‘", "ÎÏ"]
)
def test_texts_in_other_languages_are_not_mojibake(text: str, tmp_path: Path) -> None:
    assert "mojibake" not in load(tmp_path, [{"messages": [turn("user", text), ANSWERED]}]).check().counts


def test_html_entities_are_found_on_the_fast_path(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps({"messages": [ASKED, ANSWERED]})
    path.write_text(good + "\n" + good.replace("Q?", "a \\u0026lt; b") + "\n", encoding="utf-8")
    data = Dataset.load(path)
    assert data.check().counts["html-entities"] == 1
    fixed = data.fix(tmp_path / "new.jsonl", remedies=["html-entities"])
    assert (fixed.changed, pairs(Dataset.load(fixed.path))[1][0]) == (1, "a < b")


def test_columns_with_the_same_name_are_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    twice = pa.table([pa.array(["a"]), pa.array(["b"]), pa.array(["x"])], names=["text", "text", "label"])
    with pytest.raises(UsageError, match="several columns named text"):
        Dataset.load(twice)
    parquet.write_table(twice, tmp_path / "rows.parquet")
    with pytest.raises(UsageError, match="several columns named text"):
        Dataset.load(tmp_path / "rows.parquet").check()


def test_durations_are_noted_and_types_that_arrow_lacks_do_not_crash() -> None:
    pd = pytest.importorskip("pandas")
    spans = Dataset.load(pd.DataFrame({"text": ["a"], "label": pd.to_timedelta(["26:00:00"])}))
    assert pairs(spans) == [("a", "1 day, 2:00:00")]
    assert spans.check().counts["read-as-text"] == 1
    with pytest.raises(UsageError, match="complex"):
        Dataset.load(pd.DataFrame({"text": ["a"], "label": [1 + 2j]}))


def test_fix_drops_header_rows_and_drops_totals_only_if_named(tmp_path: Path) -> None:
    data = table(tmp_path, "text,label\na,x\ntext,label\nTotal,1\n")
    kept = data.fix(tmp_path / "kept.jsonl")
    assert (kept.written, kept.changed, kept.counts) == (2, 0, {"no-row": 1})
    assert pairs(Dataset.load(kept.path)) == [("a", "x"), ("Total", "1")]
    asked = data.fix(tmp_path / "asked.jsonl", remedies=["total-line"])
    assert (asked.written, asked.dropped) == (1, 1)
    rows = load(tmp_path, [{"text": "a", "label": "x"}, {"text": "text", "label": "label"}])
    named = rows.fix(tmp_path / "named.jsonl")
    assert (named.written, named.counts) == (1, {"names-as-row": 1})
