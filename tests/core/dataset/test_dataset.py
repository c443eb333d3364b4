"""A dataset never changes, splits without leaks, and reads the same on every path."""

from __future__ import annotations

import gc
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tuneport
import tuneport.plugin
from tuneport import Conversation, Dataset
from tuneport.dataset import Example, canonical
from tuneport.dataset.read.files import open_file
from tuneport.dataset.read.sniff import ReadOptions
from tuneport.dataset.scan import workers
from tuneport.dataset.scan.scan import Scan, scan
from tuneport.errors import DataError, UsageError
from tuneport.plugin import DataRules

QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
ROW = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}
WORDS = st.sampled_from(
    ["a", " b", "c ", "", "\n", '"', '":', "\\", "é", "Ã©", "\u2028", "\x07", "\x7f", "{", "日本", "“q”"]
)
TURNS = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant"] * 4 + ["system", "tool", "bot"]),
        "content": st.lists(WORDS, max_size=4).map("".join),
    },
    optional={"weight": st.sampled_from([0, 1]), "name": st.just("Ann")},
)
ROWS = st.lists(
    st.one_of(
        st.just(ROW),
        st.lists(TURNS, max_size=4).map(lambda turns: {"messages": turns}),
        st.sampled_from(
            ['{"messages": []}', "", "[]", json.dumps(ROW)[:-1], json.dumps(ROW).replace("}]", ', "role": "user"}]')]
        ),
    ),
    max_size=8,
)
STYLES = st.sampled_from([{}, {"separators": (",", ":")}, {"ensure_ascii": False}, {"separators": (", ", ":")}])


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path_factory.mktemp("home")))


def number_rows(rows: int) -> list[dict[str, str]]:
    return [{"question": f"What is {number}?", "answer": f"It is {number}"} for number in range(rows)]


def scan_results(found: Scan) -> dict[str, Any]:
    """All results of a scan."""
    return {
        "rows": (found.read, found.used, found.size, found.lines),
        "fingerprint": found.fingerprint,
        "findings": [
            (one.code, one.line, one.message) for one in found.findings.kept() if one.code != "unused-columns"
        ],
        "counts": found.findings.counts,
        "stats": found.tally.stats(),
        "index": list(found.index()),
        "records": sorted(bytes(records) for passes in found.records.by_text() for records in passes()),
    }


@QUIET
@given(rows=ROWS, style=STYLES, windows=st.booleans())
def test_the_fast_path_finds_what_the_slow_path_finds(
    rows: list[Any], style: dict[str, Any], windows: bool, tmp_path: Path
) -> None:
    lines = [json.dumps(row, **style) if isinstance(row, dict) else row for row in [ROW, *rows]]
    ends = "\r\n" if windows else "\n"
    short, long = tmp_path / "short.jsonl", tmp_path / "long.jsonl"
    short.write_text("".join(line + ends for line in lines), newline="")
    long.write_text("".join(line.replace('"messages"', '"chat"', 1) + ends for line in lines), newline="")
    one = Dataset.load(short)
    other = Dataset.load(long, columns={"messages": "chat"})
    quick, slow = scan_results(one._rows.scan()), scan_results(other._rows.scan())
    for found in (quick, slow):  # a pointer or message may name the column
        found["findings"] = [
            (code, line, message.replace("chat", "messages")) for code, line, message in found["findings"]
        ]
    quick["findings"] = [each for each in quick["findings"] if each[0] != "invalid-json"]
    slow["findings"] = [each for each in slow["findings"] if each[0] != "invalid-json"]
    assert quick == slow
    assert [canonical(example) for example in one] == [canonical(example) for example in other] == list(one.lines())
    assert one.fingerprint == hashlib.sha256(b"".join(hashlib.sha256(canonical(e)).digest() for e in one)).hexdigest()


def test_a_repeated_key_with_the_length_of_missing_spaces_is_found(tmp_path: Path) -> None:
    spaced = json.dumps({"messages": ROW["messages"] * 2})
    compact = json.dumps(json.loads(spaced), separators=(",", ":"))
    room = len(spaced) - len(compact) - len('"content":"",')
    hidden = compact.replace('"content"', '"content":"",' + " " * room + '"content"', 1)
    assert len(hidden) == len(spaced)
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{spaced}\n{hidden}\n{spaced}\n")
    found = [(one.line, one.pointer) for one in Dataset.load(path).check().diagnostics if one.code == "duplicate-key"]
    assert found == [(2, "/messages/0")]


@pytest.mark.parametrize("broken", [False, True])
def test_several_processes_find_the_same_as_one(broken: bool, tmp_path: Path) -> None:
    turns, long = ROW["messages"], "word " * 16_000  # few rows, and yet a file that is worth several processes
    rows = [ROW | {"messages": [*turns, {"role": "user", "content": f"{long}{n} "}]} for n in range(105)]
    chats = [json.dumps(row) for row in rows]
    path = tmp_path / "rows.jsonl"
    others = [json.dumps(row) for row in number_rows(500)] if broken else chats
    path.write_text("\ufeff" + "\n".join([*chats, *others, *chats[::-1], "", "{", chats[0]]))
    assert path.stat().st_size > workers.WORTH_IT
    data = Dataset.load(path)
    alone = scan_results(scan(data._rows.origin.source, data._rows.origin.recipe))
    assert scan_results(workers.scan_with(data._rows.origin.source, data._rows.origin.recipe, 2)) == alone
    assert alone["counts"]["edge-whitespace"] > 100


@pytest.mark.parametrize("threads", [0, 1])
def test_a_killed_process_costs_only_time(threads: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in number_rows(50)))
    data = Dataset.load(path)
    assert data._rows.origin.recipe is not None
    with ExitStack() as stack:
        if threads:  # then there is no fork
            stack.enter_context(ThreadPoolExecutor(threads)).submit(int).result()
        file = stack.enter_context(data._rows.origin.source.open())
        process = stack.enter_context(workers._Process(file, data._rows.origin.recipe))
        for ended in (False, True):
            if ended:
                os.kill(process.pid, signal.SIGKILL)
                process._wait()
            task = workers._Task(0, path.stat().st_size, too_large=False)
            process.send(task)
            assert workers._wait_for(task, file, data._rows.origin.recipe).used == 50
            assert process.ended is ended


def test_reading_again_returns_the_same_rows_and_an_iterator_is_kept(tmp_path: Path) -> None:
    data = Dataset.load(iter(number_rows(20)))
    assert list(data) == list(data)
    assert len(data) == 20
    assert data.files == ()
    large = Dataset.load({"question": "q" * 1_000_000, "answer": str(number)} for number in range(12))
    assert len(list(large)) == len(list(large)) == 12
    kept = list(tuneport.plugin.home("spool").iterdir())
    assert len(kept) == 1
    del large
    gc.collect()
    assert not list(tuneport.plugin.home("spool").iterdir())


def test_a_list_that_changes_later_does_not_change_the_dataset() -> None:
    rows = number_rows(3)
    data = Dataset.load(rows)
    rows[0]["answer"] = "another"
    rows.pop()
    assert [one.messages[-1].text for one in data if isinstance(one, Conversation)] == ["It is 0", "It is 1", "It is 2"]


def test_a_changed_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW))
    data = Dataset.load(path)
    assert len(data) == 1
    path.write_text(json.dumps(ROW) * 2)
    with pytest.raises(DataError, match="has changed since it was loaded"):
        list(data)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        list(data)


def test_a_program_can_be_piped_into_standard_input() -> None:
    program = "import tuneport; d = tuneport.Dataset.load('-'); print(len(d), d.format, d.check().file)"
    rows = "text,label\nHello,greeting\nBye,parting\n"
    done = subprocess.run([sys.executable, "-c", program], input=rows, capture_output=True, text=True, check=True)
    assert done.stdout == "2 csv -\n"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nowhere.jsonl", "There is no file"),
        (7, "int is not a dataset"),
        (b"rows", "bytes"),
        ({"a": 1}, "dict"),
        (".", "is a folder"),
        ('{"text": "rows where a name belongs"}\n' * 500, r"belongs.{1,200}… cannot be read: File name too long"),
        ("~nobody-here/rows.csv", "there is no user .nobody-here."),
        ("rows\0.csv", "cannot be read"),
    ],
)
def test_what_cannot_be_opened_is_refused(source: object, says: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){says}"):
        Dataset.load(source)


def test_an_unknown_format_is_refused_and_a_given_one_is_used(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("text\tlabel\nHello, you\tgreeting\n")
    assert len(Dataset.load(path, format="tsv")) == 1
    with pytest.raises(UsageError, match="Formats are jsonl"):
        Dataset.load(path, format="xml")


@given(rows=st.integers(3, 200), seed=st.integers(0, 5), holdout=st.floats(0.01, 0.6), both=st.booleans())
@QUIET
def test_a_split_loses_nothing_and_leaves_no_part_empty(rows: int, seed: int, holdout: float, both: bool) -> None:
    data = Dataset.load(number_rows(rows))
    parts = data.split(holdout=holdout, validation=0.3 if both else 0.0, seed=seed)
    assert len(parts) == 2 + both
    assert all(parts)
    assert sorted(map(canonical, data)) == sorted(canonical(one) for part in parts for one in part)
    assert all(list(part.lines()) == [canonical(one) for one in part] for part in parts)
    assert [len(part) for part in parts] == [len(list(part)) for part in parts]
    assert [part.fingerprint for part in parts] == [part.fingerprint for part in data.split(holdout, 0.3 * both, seed)]


def test_rows_with_the_same_text_are_never_in_two_parts() -> None:
    rows = [
        row | {"question": ask} for row in number_rows(200) for ask in (row["question"], f" {row['question'].upper()}!")
    ]
    train, validation, holdout = Dataset.load(rows).split(holdout=0.2, validation=0.2)
    assert len(train) + len(validation) + len(holdout) == 400
    for part in (train, validation, holdout):
        assert part.check().counts["near-duplicate"] * 2 == len(part)
    for other in (validation, holdout):
        assert not {"leaked-row", "leaked-prompt"} & set(train.check(against=other).counts)
    assert {"leaked-row"} <= set(train.check(against=train).counts)


def test_rows_keep_their_part_when_others_are_added() -> None:
    small, large = Dataset.load(number_rows(100)), Dataset.load(number_rows(1000))
    for before, after in zip(small.split(holdout=0.2, seed=3), large.split(holdout=0.2, seed=3), strict=True):
        assert set(map(canonical, before)) <= set(map(canonical, after))
    assert 150 < len(large.split(holdout=0.2)[1]) < 250
    assert small.split(holdout=0.2, seed=1)[1].fingerprint != small.split(holdout=0.2, seed=2)[1].fingerprint


@pytest.mark.parametrize(
    ("fractions", "says"), [((0, 0), "has no fraction"), ((1.5, 0), "not between"), ((0.5, 0.5), "nothing to train")]
)
def test_invalid_fractions_of_a_split_are_refused(fractions: tuple[float, float], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Dataset.load(number_rows(10)).split(*fractions)
    with pytest.raises(UsageError, match="too few"):
        Dataset.load(number_rows(1) * 9).split(holdout=0.1)


def test_a_sample_can_be_split_with_its_own_seed() -> None:
    rows = Dataset.load([{"question": f"{n}?", "answer": str(n)} for n in range(2000)]).sample(400)
    assert 20 < len(rows.split(holdout=0.1)[1]) < 60


def test_a_sample_is_seeded_keeps_its_order_and_can_be_split() -> None:
    data = Dataset.load(number_rows(100))
    sample = data.sample(30, seed=1)
    assert len(sample) == len(list(sample)) == 30
    assert [canonical(one) for one in sample] == [canonical(one) for one in data if one in list(sample)]
    assert sample.fingerprint == data.sample(30, seed=1).fingerprint != data.sample(30, seed=2).fingerprint
    assert len(data.sample(1000)) == 100
    train, holdout = sample.split(holdout=0.2)
    assert len(train) + len(holdout) == 30
    check = train.check()
    assert (check.read, check.used, check.rejected) == (len(train), len(train), 0)
    assert check.fingerprint == train.fingerprint


def _by_words(examples: Sequence[Example]) -> list[int]:
    return [len(canonical(example).split()) for example in examples]


@pytest.mark.parametrize(("too_long", "used", "ok"), [("stop", 9, False), ("drop", 9, True), ("truncate", 10, True)])
def test_rows_that_are_too_long_stop_or_are_dropped_or_stay(too_long: Any, used: int, ok: bool) -> None:
    rows = [*number_rows(9), {"question": "very " * 50, "answer": "long"}]
    rules = DataRules(max_tokens=20, count_tokens=_by_words)
    result = Dataset.load(rows).check(rules, too_long=too_long)
    assert (result.read, result.used, result.rejected, result.ok) == (10, used, 10 - used, ok)
    assert result.counts["too-long"] == 1
    assert len(result.dataset) == len(list(result.dataset)) == used
    digests = [hashlib.sha256(line).digest() for line in result.dataset.lines()]
    assert result.dataset.fingerprint == result.fingerprint == hashlib.sha256(b"".join(digests)).hexdigest()
    assert result.stats.tokens is not None
    assert result.stats.tokens.count == used


def test_the_result_of_a_check_has_the_promised_keys() -> None:
    result = Dataset.load([*number_rows(2), {"question": "Why?", "answer": ""}]).check()
    found = result.to_dict()
    assert list(found) == ["file", "format", "read", "used", "rejected", "fingerprint", "diagnostics", "stats"]
    assert (found["read"], found["used"], found["rejected"]) == (3, 2, 1)
    keys = ["file", "line", "pointer", "code", "severity", "message", "remedy"]
    assert all(list(one) == keys for one in found["diagnostics"])
    (empty,) = [one for one in found["diagnostics"] if one["code"] == "empty-answer"]
    assert (empty["line"], empty["pointer"], empty["severity"]) == (3, "/answer", "error")
    assert not result.ok


def test_all_findings_are_counted_and_a_limited_number_is_kept() -> None:
    result = Dataset.load([{"question": "Why? ", "answer": str(number)} for number in range(500)]).check()
    kept = [one.line for one in result.diagnostics if one.code == "edge-whitespace"]
    assert result.counts["edge-whitespace"] == 500
    assert kept == list(range(1, 21))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_written_rows_are_read_again_unchanged(name: str, tmp_path: Path) -> None:
    data = Dataset.load(number_rows(20))
    path = data.write(tmp_path / name)
    assert Dataset.load(path).fingerprint == data.fingerprint
    raw = gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()
    assert json.loads(raw.split(b"\n")[0])["messages"][0] == {"role": "user", "content": "What is 0?"}
    with pytest.raises(UsageError, match="already exists"):
        data.write(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_row_that_json_cannot_express_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="Row 2 cannot be written as JSON"):
        Dataset.load([number_rows(1)[0], {"question": object(), "answer": "b"}])
    looped: dict[str, Any] = {}
    looped["question"] = looped
    with pytest.raises(UsageError, match="Row 1 cannot"):
        Dataset.load([looped])


def test_python_values_that_json_lacks_are_reported_not_changed() -> None:
    values = ["x", "\ud800", float("inf"), float("nan")]
    counts = Dataset.load([{"text": f"text {at}", "label": value} for at, value in enumerate(values)]).check().counts
    assert counts["lone-surrogate"] == counts["non-finite-number"] == counts["missing-value"] == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are needed")
def test_a_pipe_is_kept_so_that_it_can_be_read_again(tmp_path: Path) -> None:
    pipe = tmp_path / "rows.fifo"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", f"printf 'text,label\\nHello,x\\n' > {pipe}"]):
        data = Dataset.load(pipe)
    assert len(list(data)) == len(list(data)) == 1


def test_the_format_is_detected_without_a_suffix(tmp_path: Path) -> None:
    for text, format_ in [
        ('{"a": 1}\n', "jsonl"),
        ("[{}]", "json"),
        ("a\tb\n", "tsv"),
        ("a,b\n", "csv"),
        ("{\n", "json"),
    ]:
        path = tmp_path / "rows"
        path.write_text(text)
        assert open_file(path, ReadOptions()).format == format_
