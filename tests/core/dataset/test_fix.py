"""Fixing writes a new file, counts every row, and changes nothing the second time."""

from __future__ import annotations

import gzip
import json
import resource
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneport.dataset import Completion, Conversation, Dataset, FixResult, Message, canonical
from tuneport.dataset.fix.fix import KEPT_CHANGES
from tuneport.dataset.fix.remedies import REMEDIES
from tuneport.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path / "home"))


def chat(*turns: Any, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant") * len(turns)
    messages = [
        turn if isinstance(turn, dict) else {"role": role, "content": turn}
        for role, turn in zip(roles, turns, strict=False)
    ]
    return {"messages": messages, **more}


def fix_rows(folder: Path, rows: list[Any], **options: Any) -> tuple[FixResult, list[Any]]:
    folder = Path(tempfile.mkdtemp(dir=folder))
    source, target = folder / "rows.jsonl", folder / "fixed.jsonl"
    source.write_bytes(b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows))
    result = Dataset.load(source).fix(target, drop_most=True, **options)
    assert result.read == result.written + result.dropped
    examples = [json.loads(line) for line in target.read_bytes().splitlines()]
    assert len(examples) == result.written
    again = Dataset.load(target).fix(folder / "again.jsonl", **options)
    assert (again.changed, again.dropped, again.counts) == (0, 0, {})
    assert (folder / "again.jsonl").read_bytes() == target.read_bytes()
    return result, examples


def contents(row: dict[str, Any]) -> list[Any]:
    return [message.get("content") for message in row["messages"]]


@pytest.mark.parametrize(
    ("code", "before", "after"),
    [
        ("edge-whitespace", " hello\n", "hello"),
        ("mojibake", "cafÃ© â€” dâ€™accord", "café — d’accord"),
        ("mojibake", "twice: cafÃƒÂ©", "twice: café"),
        ("control-character", "a\x00b \x1b[1;31mred\x1b[0m\x1b", "ab red"),
    ],
)
def test_text_is_fixed_and_both_versions_are_kept(tmp_path: Path, code: str, before: str, after: str) -> None:
    result, rows = fix_rows(tmp_path, [chat(before, "yes"), chat("fine", "yes")])
    assert contents(rows[0]) == [after, "yes"]
    assert set(result.counts) == {code}
    first, last = result.changes[0], result.changes[-1]
    assert (first.line, first.pointer, first.code, first.action) == (1, "/messages/0/content", code, "changed")
    assert (first.before, last.after) == (before, after)
    assert (result.changed, result.dropped) == (1, 0)


def test_mojibake_that_cannot_be_decoded_completely_stays(tmp_path: Path) -> None:
    mixed = "cafÃ© and 東京"
    result, rows = fix_rows(tmp_path, [chat(mixed, "yes")])
    assert contents(rows[0])[0] == mixed
    assert result.changed == 0


def test_text_parts_are_stripped_only_at_the_outer_ends(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": " "}, {"type": "text", "text": " a "}, {"type": "text", "text": "b "}]
    _, rows = fix_rows(tmp_path, [chat({"role": "user", "content": parts}, "yes")])
    assert [part["text"] for part in rows[0]["messages"][0]["content"]] == ["", "a ", "b"]


@pytest.mark.parametrize(("weight", "after"), [(0.5, 1), (2, 1), (-1, 0), (True, 1), ("0", 0), ("high", None)])
def test_weights_become_0_or_1(tmp_path: Path, weight: object, after: int | None) -> None:
    odd = {"role": "assistant", "content": "b", "weight": weight}
    result, rows = fix_rows(tmp_path, [chat("a", odd, "c", "d")])
    assert rows[0]["messages"][1].get("weight") == after
    assert result.counts == {"bad-weight": 1}
    assert result.changes[0].pointer == "/messages/1/weight"


def test_turns_of_one_role_are_joined_unless_their_weights_differ(tmp_path: Path) -> None:
    user = {"role": "user", "content": "a"}
    result, rows = fix_rows(
        tmp_path,
        [
            {"messages": [user, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]},
            {
                "messages": [
                    user,
                    {"role": "assistant", "content": "no", "weight": 0},
                    {"role": "assistant", "content": "yes"},
                ]
            },
        ],
    )
    assert contents(rows[0]) == ["a\n\nb", "c"]
    assert contents(rows[1]) == ["a", "no", "yes"]
    assert result.counts == {"consecutive-roles": 1}


def test_keys_that_no_model_reads_are_left_out_and_counted(tmp_path: Path) -> None:
    odd = {"role": "user", "content": "a", "mood": "good", "weight": 1}
    result, rows = fix_rows(tmp_path, [chat(odd, "b")])
    assert rows[0]["messages"][0] == {"role": "user", "content": "a"}
    assert result.counts == {"unknown-key": 1, "weight-not-on-assistant": 1}


def test_rows_without_a_remedy_are_dropped_with_the_reason(tmp_path: Path) -> None:
    rows = [chat("a", "b"), b"{oops\n", chat("a", "  "), b"\n", chat("only a question")]
    result, written = fix_rows(tmp_path, rows)
    assert len(written) == 1
    dropped = [(each.line, each.code) for each in result.changes if each.action == "dropped"]
    assert dropped == [(2, "invalid-json"), (3, "empty-answer"), (5, "no-assistant")]
    assert (result.read, result.written, result.dropped) == (4, 1, 3)
    assert all(each.message for each in result.changes if each.action == "dropped")


def test_copies_that_fixing_creates_are_dropped(tmp_path: Path) -> None:
    result, rows = fix_rows(tmp_path, [chat("a", "b"), chat(" a ", "b"), chat("c", "d"), chat("a", "b")])
    assert [contents(row)[0] for row in rows] == ["a", "c"]
    assert result.counts == {"duplicate": 2, "edge-whitespace": 1}
    assert (result.changed, result.dropped) == (0, 2)
    assert "line 1" in str(result.changes[-1].message)


def test_near_duplicates_and_conflicts_are_dropped_only_if_named(tmp_path: Path) -> None:
    rows = [chat("a", "1"), chat("A", "1"), chat("a", "2"), chat("a", "2")]
    result, _ = fix_rows(tmp_path, rows)
    assert result.counts == {"duplicate": 1}
    result, _ = fix_rows(tmp_path, rows, remedies=["near-duplicate"])
    assert result.counts == {"duplicate": 1, "near-duplicate": 1}
    result, written = fix_rows(tmp_path, rows, remedies=["conflicting-answers"])
    assert result.counts == {"conflicting-answers": 2}
    assert [contents(row)[0] for row in written] == ["a", "A"]


def test_rows_of_the_holdout_are_dropped_if_named(tmp_path: Path) -> None:
    held_out = Dataset.load([chat("c", "d"), chat("B", "d")])
    rows = [chat("a", "d"), chat("b", "d"), chat("c", "d")]
    result, written = fix_rows(tmp_path, rows, remedies=["leaked-row"], against=held_out)
    assert [contents(row)[0] for row in written] == ["a"]
    assert result.counts == {"leaked-row": 2}
    with pytest.raises(UsageError, match="against="):
        Dataset.load(rows).fix(tmp_path / "x.jsonl", remedies=["leaked-row"])


def test_empty_turns_and_turns_after_the_last_answer_are_removed_if_named(tmp_path: Path) -> None:
    rows = [chat("a", "b", "left over"), chat({"role": "system", "content": ""}, {"role": "user", "content": "a"}, "-")]
    rows[1]["messages"][2] = {"role": "assistant", "content": "-"}
    result, written = fix_rows(tmp_path, rows, remedies=["last-not-assistant", "empty-content"])
    assert [contents(row) for row in written] == [["a", "b"], ["a", "-"]]
    assert result.counts == {"last-not-assistant": 1, "empty-content": 1}


def test_white_space_between_prompt_and_completion_stays(tmp_path: Path) -> None:
    result, rows = fix_rows(
        tmp_path, [{"prompt": "Q: 1+1\nA: ", "completion": "\n2"}, {"prompt": " ", "completion": " a"}]
    )
    assert [(row["prompt"], row["completion"]) for row in rows] == [("Q: 1+1\nA: ", "\n2"), (" ", " a")]
    assert result.changed == 0
    rows = [{"prompt": "\nQ:", "completion": " 2\n"}, {"prompt": "", "completion": " Once. "}]
    result, rows = fix_rows(tmp_path, rows)
    assert [(row["prompt"], row["completion"]) for row in rows] == [("Q:", " 2"), ("", "Once.")]
    assert result.counts == {"edge-whitespace": 3}


def test_a_number_is_written_as_the_text_that_it_was_read_as(tmp_path: Path) -> None:
    result, rows = fix_rows(tmp_path, [{"prompt": "1+1=", "completion": 2}, {"prompt": "Is it?", "completion": True}])
    assert [row["completion"] for row in rows] == ["2", "true"]
    assert result.counts == {"read-as-text": 2}


def test_both_answers_of_a_preference_are_fix_rows(tmp_path: Path) -> None:
    _, rows = fix_rows(tmp_path, [{"prompt": " q", "chosen": "good ", "rejected": "b\x00ad"}])
    arms = (rows[0]["input"]["messages"], rows[0]["preferred_output"], rows[0]["non_preferred_output"])
    assert [arm[0]["content"] for arm in arms] == ["q", "good", "bad"]


def test_a_table_becomes_json_lines(tmp_path: Path) -> None:
    table, target = tmp_path / "t.csv", tmp_path / "t.jsonl"
    table.write_bytes(b'\xef\xbb\xbftext,label\r\n" hello\r\nthere ",greet\r\n"bye",part \r\n')
    result = Dataset.load(table).fix(target)
    assert [contents(json.loads(line)) for line in target.read_bytes().splitlines()] == [
        ["hello\r\nthere", "greet"],
        ["bye", "part"],
    ]
    assert tuple(each.pointer for each in result.changes if each.code == "edge-whitespace") == ("/text", "/label")
    assert Dataset.load(target).check().counts.get("byte-order-mark", 0) == 0


def test_several_shapes_stay_in_one_file(tmp_path: Path) -> None:
    rows = [Completion("a", "b"), Conversation((Message(role="user", content="c "), Message("assistant", "d")))]
    _, written = fix_rows(tmp_path, [canonical(row) + b"\n" for row in rows])
    assert [row["shape"] for row in written] == ["completion", "conversation"]
    assert list(Dataset.load(Dataset.from_examples(rows).write(tmp_path / "both.jsonl"))) == rows


def test_the_new_file_must_be_named_as_jsonl(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Write to fixed\.jsonl"):
        Dataset.load([chat("a", "b")]).fix(tmp_path / "fixed.csv")
    packed = tmp_path / "fixed.jsonl.gz"
    Dataset.load([chat("a", "b")]).fix(packed)
    assert len(Dataset.load(packed)) == 1


def test_the_source_is_never_written_to(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps(chat("a ", "b")))
    (tmp_path / "link.jsonl").symlink_to(source)
    for target in (source, tmp_path / "link.jsonl"):
        with pytest.raises(UsageError, match="already exists"):
            Dataset.load(source).fix(target)
    assert source.read_text() == json.dumps(chat("a ", "b"))


def test_a_fix_that_fails_leaves_no_file(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("{oops\n" + json.dumps(chat("a", "")))
    with pytest.raises((DataError, UsageError)):
        Dataset.load(source).fix(tmp_path / "fixed.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["rows.jsonl"]


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere/fixed\.jsonl cannot be written"):
        Dataset.load([chat("a", "b")]).fix(tmp_path / "nowhere" / "fixed.jsonl")


def test_a_disk_that_fills_up_leaves_no_file(tmp_path: Path) -> None:
    source, folder = tmp_path / "rows.jsonl", tmp_path / "new"
    folder.mkdir()
    source.write_text("".join(json.dumps(chat(f"{index} ", "b" * 99)) + "\n" for index in range(500)))
    data = Dataset.load(source)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(UsageError, match="File too large") as raised:
            data.fix(folder / "fixed.jsonl", changes_to=folder / "changes.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "Free some space" in str(raised.value)
    assert list(folder.iterdir()) == []


def test_a_truncated_file_is_not_fix_rows(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl.gz"
    rows = "".join(json.dumps(chat(f"{index}", "b")) + "\n" for index in range(40_000))
    source.write_bytes(gzip.compress(rows.encode())[:-200])
    with pytest.raises(DataError, match="cannot be fixed"):
        Dataset.load(source).fix(tmp_path / "fixed.jsonl")
    assert not (tmp_path / "fixed.jsonl").exists()


def test_an_unknown_remedy_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean duplicate"):
        Dataset.load([chat("a", "b")]).fix(tmp_path / "x.jsonl", remedies=["duplicates"])


def test_all_changes_can_be_kept_in_a_file(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(chat(f"{index} ", "b")) + "\n" for index in range(KEPT_CHANGES + 50)))
    log = tmp_path / "changes.jsonl"
    result = Dataset.load(source).fix(tmp_path / "fixed.jsonl", changes_to=log)
    assert len(result.changes) == KEPT_CHANGES
    assert result.counts == {"edge-whitespace": KEPT_CHANGES + 50}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["line"] for line in lines] == list(range(1, KEPT_CHANGES + 51))
    assert set(lines[0]) == {"line", "pointer", "code", "action", "before", "after", "message"}
    json.dumps(result.to_dict())


@given(
    rows=st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(["system", "user", "assistant"]),
                st.text(alphabet=" \n\x00\x85abÃÂâ©€œð…é“", max_size=6),
            ),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=4,
    ),
    remedies=st.none() | st.sets(st.sampled_from(sorted(REMEDIES.keys() - {"leaked-row"}))),
)
def test_fixing_a_fixed_file_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[tuple[str, str]]], remedies: set[str] | None
) -> None:
    folder = tmp_path_factory.mktemp("fix")
    good = chat("a good row", "keeps the file from being empty")
    made = [{"messages": [{"role": role, "content": text} for role, text in row]} for row in rows]
    fix_rows(folder, [good, *made], remedies=remedies)
