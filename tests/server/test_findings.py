"""The message about a bad file, for clients that have only the wire: the cause first, without config keys."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from serving import jsonl
from tuneport import Dataset, Ref
from tuneport.plugin import DataRules
from tuneport_server.background.findings import describe
from tuneport_server.background.hyperparameters import METHODS, TrainingRequest

CSV = b"text,label\nMy card never arrived,card\nI forgot my PIN,pin\n"
PAIR = {
    "prompt": [{"role": "user", "content": "hi"}],
    "chosen": [{"role": "assistant", "content": "yes"}],
    "rejected": [{"role": "assistant", "content": "no"}],
}
PAIRS = json.dumps(PAIR).encode() + b"\n"
WIZARD = b'{"messages": [{"role": "wizard", "content": "x"}, {"role": "assistant", "content": "y"}]}\n'
BOTH = {"sft": frozenset({"conversation", "completion"}), "dpo": frozenset({"preference"})}


def message(file: Path, content: bytes, method: str = "supervised", **limits) -> str:
    file.write_bytes(content)
    result = Dataset.load(file, "jsonl").check(
        DataRules(shapes=BOTH, **limits),
        method=METHODS[method],
        workers=1,
    )
    wrong = [one for one in result.diagnostics if one.severity == "error"]
    return describe(wrong, file, TrainingRequest(base=Ref("torch", "smollm2-135m"), method=method))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (CSV, "looks like CSV"),
        (CSV.replace(b",", b"\t"), "looks like TSV"),
        (b"\xef\xbb\xbf" + CSV, "looks like CSV"),
        (b"Dear model\nplease learn\n", "is plain text"),
        (json.dumps([PAIR]).encode(), "is a JSON array"),
        (json.dumps([PAIR], indent=1).encode(), "is a JSON array"),
        (json.dumps(PAIR, indent=1).encode(), "is one JSON object on several lines"),
        (b"PAR1" + bytes(range(256)), "is Parquet"),
        (b"\0" + bytes(range(1, 256)) * 9, "is not text"),
        (b"\x93\x11" + bytes(range(256)) * 9, "is not text"),
    ],
)
def test_the_error_names_the_format_of_another_file(tmp_path: Path, content: bytes, kind: str) -> None:
    said = message(tmp_path / "rows", content)
    assert said.startswith(f"not-jsonl: The file {kind}. Send JSONL: ")
    assert "\n" not in said


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_the_error_for_a_utf_16_file_names_the_encoding(tmp_path: Path, encoding: str) -> None:
    assert message(tmp_path / "rows", jsonl().decode().encode(encoding)).startswith("utf-16: ")


def test_the_cause_comes_first_and_its_consequences_are_left_out(tmp_path: Path) -> None:
    said = message(tmp_path / "rows", WIZARD * 7, min_rows=10)
    assert said.startswith("line 1 at /messages/0/role: unknown-role: ")
    assert len(said.splitlines()) == 6
    assert said.endswith("and 2 more")
    assert "no-rows" not in said
    assert "too-few-rows" not in said
    said = message(tmp_path / "rows", WIZARD + jsonl(), min_rows=20).splitlines()
    assert [line.partition(": ")[0] for line in said] == ["line 1 at /messages/0/role", "too-few-rows"]
    assert message(tmp_path / "rows", b"\n").startswith("no-rows: There is no row in the file.")


def test_the_remedy_for_a_long_row_is_to_shorten_it(tmp_path: Path) -> None:
    said = message(tmp_path / "rows", jsonl()[: jsonl().index(b"\n") + 1], max_tokens=8, count_tokens=lambda rows: [9])
    assert said == "line 1: too-long: The row has 9 tokens, but the model accepts 8. Shorten the row, or remove it."


def test_rows_of_another_method_are_described_in_the_wires_terms(tmp_path: Path) -> None:
    said = message(tmp_path / "rows", PAIRS)
    assert "supervised trains on completion rows and conversation rows, but this is a preference row." in said
    assert "Create the job with method.type dpo, or write each row as {" in said
    said = message(tmp_path / "rows", jsonl(), "dpo")
    assert (
        "dpo trains on preference rows, but this is a conversation row. Create the job with method.type supervised"
        in said
    )
    said = message(tmp_path / "rows", b'{"a": 1}\n', "dpo")
    assert "preferred_output" in said
    assert "--column" not in said


def test_random_bytes_are_not_utf_16(tmp_path: Path) -> None:
    for number in range(20):
        said = message(tmp_path / f"rows{number}", bytes([number % 2 * 255, 0]) + os.urandom(3000))
        assert said.startswith("not-jsonl: The file is not text.")
