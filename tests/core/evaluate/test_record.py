"""A record of a model: answers by prompt, damaged files, and its part in a comparison."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tuneport import Dataset, Event, GenerateOptions, Message, Model, Ref, Reply
from tuneport.errors import DataError, UsageError
from tuneport.evaluate import Record, compare_models, prompt_key
from tuneport.plugin import utc_now
from tuneport.workflow import record_answers

ROWS = Dataset.load([{"prompt": f"How much is {n} and {n}?", "completion": str(n + n)} for n in range(40)])


class Adder(Model):
    """Adds correctly below `limit`, and counts its prompts."""

    def __init__(self, name: str, limit: int) -> None:
        self.ref = Ref("test", name)
        self.limit = limit
        self.asked = 0

    def generate(self, prompts: list[list[Message]], options: GenerateOptions) -> list[Reply]:
        self.asked += len(prompts)
        numbers = [int(one[-1].text.split()[3]) for one in prompts]
        return [Reply(text=str(n + n) if n < self.limit else "?", finish_reason="stop") for n in numbers]


def test_a_recorded_model_is_compared_on_the_rows_that_it_has_answered(tmp_path: Path) -> None:
    old = Adder("old", 20)
    record = record_answers(old, ROWS.sample(30, seed=1), tmp_path / "old")
    assert len(record.answers) == old.asked == 30
    found = compare_models(Adder("new", 40), Adder("base", 0), ROWS, "exact", record=record)
    right = sum(record.answer_to(one) is not None and record.answer_to(one).text != "?" for one in ROWS)
    assert found.recorded is not None
    assert (found.recorded.rows, found.recorded.side.right, found.recorded.tuned.right) == (30, right, 30)
    assert found.recorded.difference.better == 30 - right == len(found.recorded.examples)
    assert found.recorded.difference.worse == 0
    text = str(found)
    assert "test:old" in text
    assert "tuned better than recorded" in text
    assert type(found).from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_rows_that_were_answered_are_not_asked_again(tmp_path: Path) -> None:
    model = Adder("old", 20)
    record_answers(model, ROWS.sample(10), tmp_path / "old")
    with (tmp_path / "old/answers.jsonl").open("ab") as file:
        file.write(b'{"key": "cut off by a ki')
    record = record_answers(model, ROWS, tmp_path / "old")
    assert model.asked == 40
    assert len(record.answers) == 40


def test_an_interrupted_call_keeps_its_answers(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(reply: Reply) -> None:
        raise StopError

    with pytest.raises(StopError):
        record_answers(Adder("old", 20), ROWS, tmp_path / "old", on_reply=stop)
    assert len(Record.open(tmp_path / "old").answers) == 16


def test_another_models_folder_is_refused(tmp_path: Path) -> None:
    record_answers(Adder("old", 20), ROWS.sample(2), tmp_path / "old")
    with pytest.raises(UsageError, match="record of test:old, not of test:new"):
        record_answers(Adder("new", 20), ROWS, tmp_path / "old")


def test_rows_with_answers_are_rows_to_train_on(tmp_path: Path) -> None:
    record = record_answers(Adder("old", 3), ROWS, tmp_path / "old")
    rows = list(record.with_answers(ROWS))
    assert [turn.text for turn in rows[1].messages] == ["How much is 1 and 1?", "2"]
    assert len(rows) == 40


def test_a_comparison_without_a_common_row_says_so(tmp_path: Path) -> None:
    record = record_answers(
        Adder("old", 3), Dataset.load([{"prompt": "Is 1 and 2 odd?", "completion": "?"}] * 2), tmp_path
    )
    found = compare_models(Adder("new", 40), None, ROWS, "exact", record=record)
    assert found.recorded is None
    assert "test:old answered none of these rows." in found.notes


def test_the_key_depends_only_on_the_prompt_and_tools() -> None:
    one, other = Dataset.load(
        [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "c"}, {"prompt": "b", "completion": "b"}][:2]
    )
    assert prompt_key(one) == prompt_key(other)
    assert prompt_key(one) != prompt_key(next(iter(ROWS)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("record.json", b""),
        ("record.json", b"[" * 100_000),
        ("record.json", b"[]"),
        ("record.json", b'{"model": 7}'),
        ("record.json", b"\xff\xfe"),
        ("answers.jsonl", b"{}\n"),
        ("answers.jsonl", b"nonsense\n"),
        ("answers.jsonl", b'{"key": "a", "answer": null}\n'),
        ("answers.jsonl", b"[" * 100_000 + b"\n"),
    ],
)
def test_a_damaged_record_is_an_error_that_names_the_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "record.json").write_text('{"model": "test:old"}')
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        Record.open(tmp_path)


def test_special_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a record"):
        Record.open(tmp_path / "absent")
    os.mkfifo(tmp_path / "record.json")
    with pytest.raises(DataError, match="is not a record"):
        Record.open(tmp_path)


def test_events_are_read_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"model": "test:old"}')
    event = Event(seq=1, time=utc_now(), kind="metric", message="step 1", data={"step": 1, "train_loss": 2.0})
    (tmp_path / "events.jsonl").write_text(json.dumps(event.to_dict()) + "\n")
    assert list(Record.open(tmp_path).events()) == [event]
    (tmp_path / "events.jsonl").write_text('{"seq": 1}\n')
    with pytest.raises(DataError, match="line 1 is not an event"):
        list(Record.open(tmp_path).events())


def test_a_question_is_asked_once_by_one_process_after_before_sees_it(tmp_path: Path) -> None:
    seen: list[int] = []

    def before(rows: object) -> None:
        seen.append(len(rows))  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="Another process"):
            record_answers(Adder("old", 20), ROWS, tmp_path)

    model = Adder("old", 20)
    twice = Dataset.load([{"prompt": f"How much is {n % 5} and {n % 5}?", "completion": str(n)} for n in range(20)])
    record = record_answers(model, twice, tmp_path, before=before)
    assert (model.asked, seen, len(record.answers)) == (5, [5], 5)
    assert record_answers(model, ROWS, tmp_path, progress=lambda done, *_: seen.append(done)).model == "test:old"
    assert seen[1] == 5  # rows that were answered already
