"""For any bytes, reading ends, nothing is lost, and `read = used + rejected`."""

from __future__ import annotations

import csv
import gzip
import io
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tuneport import Conversation, Dataset
from tuneport.dataset.check.one_row import is_blank
from tuneport.dataset.read import lines
from tuneport.dataset.read.lines import read_blocks

FAST = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
FRAGMENTS = st.sampled_from(
    [
        b'{"question": "a", "answer": "b"}',
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        b'{"messages": [{"role": "user", "content": "a", "content": "b"}]}',
        b"question,answer",
        b'"a","b"',
        b'"',
        b"[",
        b"]",
        b",",
        b"{",
        b"}",
        b"\n",
        b"\r\n",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\0",
        b"\xe2\x80\xa8",
        b'{"question": NaN, "answer": 1e999}',
        b'"\\ud800"',
        b"null",
        b"{}",
        b"\x1f\x8b\x08",
        b"1" * 5000,
    ]
)
BYTES = st.lists(FRAGMENTS | st.binary(max_size=12), max_size=14).map(b"".join)


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path_factory.mktemp("home")))


def load(folder: Path, name: str, data: bytes | str, **options: Any) -> Dataset:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return Dataset.load(path, **options)


def answers(data: Dataset) -> list[tuple[str, str]]:
    return [(one.messages[-2].text, one.messages[-1].text) for one in data if isinstance(one, Conversation)]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.tsv", "rows"])
@FAST
@given(data=BYTES)
def test_no_bytes_crash_a_reader_and_every_row_is_counted(name: str, data: bytes, tmp_path: Path) -> None:
    assume(not data.startswith(b"PAR1"))  # a broken Parquet file is an exception, not a finding
    for bytes_, ending in ((data, ""), (gzip.compress(data), ".gz")):
        dataset = load(tmp_path, name + ending, bytes_)
        result = dataset.check()
        assert result.read == result.used + result.rejected
        assert len(list(dataset)) == result.used == len(dataset)
        assert result.ok == (not result.errors)
        assert result.rejected <= result.errors
        json.dumps(result.to_dict())


@FAST
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=9), spaced=st.booleans(), plain=st.booleans())
def test_rows_written_as_jsonl_or_json_are_read_again(
    pairs: list[tuple[str, str]], spaced: bool, plain: bool, tmp_path: Path
) -> None:
    rows = [{"question": asked, "answer": answer} for asked, answer in pairs]
    options: Any = {"ensure_ascii": plain, "separators": None if spaced else (",", ":")}
    lines = load(tmp_path, "rows.jsonl", "\n".join(json.dumps(row, **options) for row in rows))
    array = load(tmp_path, "rows.json", json.dumps(rows, indent=2 if spaced else None, ensure_ascii=plain))
    wrapped = load(tmp_path, "wrapped.json", json.dumps({"version": [1, {"a": "]"}], "data": rows, "last": None}))
    wanted = [pair for pair in pairs if not is_blank(pair[1])]
    assert answers(lines) == answers(array) == answers(wrapped) == wanted
    assert lines.check().read == array.check().read == wrapped.check().read == len(pairs)


@FAST
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=9), separator=st.sampled_from([",", ";", "\t", "|"]))
def test_rows_written_as_a_table_are_read_again(pairs: list[tuple[str, str]], separator: str, tmp_path: Path) -> None:
    table = io.StringIO(newline="")
    writer = csv.writer(table, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "label"), *pairs])
    data = load(tmp_path, "rows.tsv" if separator == "\t" else "rows.csv", table.getvalue())
    assert answers(data) == [pair for pair in pairs if not is_blank(pair[1])]


@given(
    lines=st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=20),
    size=st.integers(1, 40),
)
def test_blocks_are_complete_lines_of_any_size(lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines)
    found = list(read_blocks(io.BytesIO(data), size))
    assert b"".join(block for block, _ in found) == data
    assert all(block.endswith(b"\n") for block, _ in found[:-1])


@given(before=st.integers(0, 30), long=st.integers(101, 400), after=st.integers(0, 30), size=st.integers(1, 64))
def test_a_line_that_is_too_large_is_skipped_and_measured(before: int, long: int, after: int, size: int) -> None:
    kept = lines.ROW_BYTES
    lines.ROW_BYTES = 100
    try:
        data = b"a" * before + b"\n" + b"b" * long + b"\n" + b"c" * after + b"\n"
        found = list(read_blocks(io.BytesIO(data), size))
    finally:
        lines.ROW_BYTES = kept
    assert b"".join(block for block, _ in found) == b"a" * before + b"\n" + b"c" * after + b"\n"
    assert [length for _, length in found if length] == [long + 1]


def test_a_line_separator_inside_a_text_does_not_end_the_row(tmp_path: Path) -> None:
    text = "one\u2028two\u2029three\x85four"
    data = load(tmp_path, "rows.jsonl", json.dumps({"question": text, "answer": "b"}, ensure_ascii=False))
    assert answers(data) == [(text, "b")]
    assert data.check().counts["line-separator"] == 1


def test_findings_have_the_lines_and_pointers_of_the_file(tmp_path: Path) -> None:
    good = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    bad = good.replace('"a"', '"c"').replace('"b"', '"d "')
    found = load(tmp_path, "rows.jsonl", f"{good}\n{bad}{good[:-3]}\n").check()
    places = [(one.code, one.line, one.pointer) for one in found.diagnostics if one.line]
    assert places[:3] == [
        ("blank-line", 2, None),
        ("edge-whitespace", 3, "/messages/1/content"),
        ("invalid-json", 4, None),
    ]
    table = load(
        tmp_path, "rows.csv", 'body,queue\n"two\nlines",x\nHello , y\n', columns={"text": "body", "label": "queue"}
    )
    spaces = [(one.line, one.pointer) for one in table.check().diagnostics if one.code == "edge-whitespace"]
    assert spaces == [(4, "/body"), (4, "/queue")]


def test_an_error_in_an_array_has_its_place_and_ends_reading(tmp_path: Path) -> None:
    data = load(tmp_path, "rows.json", '[\n{"question": "a", "answer": "b"},\n{"question": "a" "answer": "b"}]')
    result = data.check()
    (found,) = [one for one in result.diagnostics if one.code == "invalid-json"]
    assert (result.read, result.used, found.line) == (2, 1, 3)
    assert "column 18" in found.message
    assert "the rest of the file is not read" in found.message.lower()


def test_rows_one_after_another_are_read_from_a_json_file(tmp_path: Path) -> None:
    rows = '{"question": "a",\n "answer": "b"}\n{"question": "c", "answer": "d"}'
    assert answers(load(tmp_path, "rows.json", rows)) == [("a", "b"), ("c", "d")]


def test_a_gigabyte_line_is_refused_in_limited_memory(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = b'{"question": "a", "answer": "b"}\n'
    with path.open("wb") as file:
        file.write(good)
        file.write(b'{"question": "')
        file.seek(1 << 30, 1)  # a hole: the file takes no space on disk
        file.write(b'"}\n' + good)
    program = "import sys, tuneport; print(dict(tuneport.Dataset.load(sys.argv[1]).check(workers=2).counts))"
    limit = (600 << 20, 600 << 20)
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, limit),
    )
    assert "'row-too-large': 1" in done.stdout


@pytest.mark.parametrize("frame", ["pandas", "polars", "pyarrow"])
def test_data_frames_are_read_through_arrow(frame: str) -> None:
    columns = {"body": ["Hello", "Bye"], "queue": [1, 2], "none": [None, None]}
    if frame == "pandas":
        import pandas as pd

        table: Any = pd.DataFrame(columns)
    elif frame == "polars":
        import polars as pl

        table = pl.DataFrame(columns)
    else:
        import pyarrow as pa

        table = pa.table(columns)
    data = Dataset.load(table, columns={"text": "body", "label": "queue"})
    assert answers(data) == [("Hello", "1"), ("Bye", "2")]
    assert data.files == ()


def test_parquet_keeps_nested_rows_and_label_names(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    chat = [[{"role": "user", "content": "a", "weight": None}, {"role": "assistant", "content": "b", "weight": 1}]]
    parquet.write_table(pa.table({"messages": chat}), tmp_path / "chat.parquet")
    assert answers(Dataset.load(tmp_path / "chat.parquet")) == [("a", "b")]

    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    noted = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"text": ["Hello", "Bye"], "label": [1, 0]}).replace_schema_metadata(noted)
    parquet.write_table(table, tmp_path / "labels.parquet")
    assert answers(Dataset.load(tmp_path / "labels.parquet")) == [("Hello", "yes"), ("Bye", "no")]
    assert Dataset.load(tmp_path / "labels.parquet").check().read == 2
