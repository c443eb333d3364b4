"""The vendor's rules, offline, and the file that is sent."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tuneport
import tuneport.plugin
from tuneport import Dataset
from tuneport_openai.catalog import table
from tuneport_openai.start.rules import data_rules, write_rows
from tuneport_openai.wire.profiles import profile

MODEL = "gpt-4o-2024-08-06"  # OpenAI tunes it with images
PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG....").decode()
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a check went to the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def turns(answer: Any = "Paris", question: Any = "Capital of France?", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **more}]}


def codes(*rows: dict[str, Any], method: str = "sft", model: str = MODEL) -> set[str]:
    filler = [turns(f"{n} is the number", f"What is {n}?") for n in range(60)] if method == "sft" else []
    result = Dataset.load([*rows, *filler]).check(data_rules(profile("openai"), model), method=method)
    return {one.code for one in result.diagnostics if one.severity == "error"}


def pair(chosen: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": "Hello?"}]}
    return {"input": asked, "preferred_output": chosen, "non_preferred_output": rejected}


def test_sound_rows_pass() -> None:
    assert not codes(
        turns(),
        turns(weight=1),
        turns(question=[{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PNG}}]),
    )


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"prompt": "2 + 2", "completion": "4"}, "mixed-shapes"),
        (turns(question=[{"type": "image_url", "image_url": {"url": "data:image/gif;base64,AAAA"}}]), "image-format"),
        (turns(question=[{"type": "image_url", "image_url": {"url": "data:image/png;base64,A"}}]), "image-format"),
        (turns(question=[{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]), "bad-part"),
        (turns(question=[{"type": "image_url", "image_url": {"url": PNG}}] * 11), "too-many-images"),
        (turns([{"type": "image_url", "image_url": {"url": PNG}}]), "image-place"),
        (
            {**turns(), "tools": [{"type": "function", "function": {"name": "two words"}}]},
            "tool-name",
        ),
        ({**turns(), "tools": [WEATHER] * 129}, "too-many-tools"),
        ({"messages": [{"role": "user", "content": "a", "name": "J Doe"}, *turns()["messages"][1:]]}, "name-not-taken"),
    ],
)
def test_what_the_vendor_refuses_is_an_error(row: dict[str, Any], code: str) -> None:
    assert code in codes(row)


def test_images_are_refused_where_the_model_takes_none() -> None:
    row = turns(question=[{"type": "image_url", "image_url": {"url": PNG}}])
    assert "images-not-taken" in codes(row, model="gpt-4o-mini-2024-07-18")


def test_ten_rows_are_the_least() -> None:
    rows = [turns(f"{n}", f"What is {n}?") for n in range(9)]
    result = Dataset.load(rows).check(data_rules(profile("openai"), MODEL))
    assert "too-few-rows" in result.counts


def test_preferences_are_one_text_answer_each() -> None:
    good, bad = [{"role": "assistant", "content": "Hello!"}], [{"role": "assistant", "content": "Go away."}]
    rows = [pair(good, bad) for _ in range(12)]
    assert not codes(*rows, method="dpo")
    longer = [*bad, {"role": "user", "content": "What?"}, *good]
    assert "arm-not-one-answer" in codes(*rows, pair(good, longer), method="dpo")
    assert "shape-not-taken" in codes(*rows)


def test_the_file_has_the_wires_rows_and_its_own_bytes_for_a_name(tmp_path: Path) -> None:
    rows = [turns("Paris", weight=1.0), {**turns("né à Zürich"), "tools": [WEATHER], "parallel_tool_calls": False}]
    file = write_rows(Dataset.load(rows), tmp_path)
    first, second = map(json.loads, file.path.read_bytes().splitlines())
    assert first == turns("Paris", weight=1)
    assert isinstance(first["messages"][1]["weight"], int)
    assert second == rows[1]
    assert file.name == file.path.name == f"tuneport-{file.sha256}.jsonl"
    assert file.path.stat().st_size == file.bytes
    assert write_rows(Dataset.load(rows), tmp_path) == file
    assert len(list(tmp_path.iterdir())) == 1


def test_preferences_and_reinforcement_rows_are_the_wires(tmp_path: Path) -> None:
    good, bad = [{"role": "assistant", "content": "Hello!"}], [{"role": "assistant", "content": "Go away."}]
    (line,) = write_rows(Dataset.load([pair(good, bad)]), tmp_path, "dpo").path.read_bytes().splitlines()
    assert json.loads(line) == pair(good, bad)
    (line,) = write_rows(Dataset.load([turns("4")]), tmp_path, "reinforcement").path.read_bytes().splitlines()
    assert json.loads(line) == {"messages": turns()["messages"][:1], "reference_answer": "4"}


def test_a_system_prompt_that_all_rows_share_goes_with_the_model(tmp_path: Path) -> None:
    rows = [turns(f"{n}") for n in range(3)]
    assert write_rows(Dataset.load(rows, system="Be short."), tmp_path).system == "Be short."
    assert write_rows(Dataset.load(rows), tmp_path).system is None
    mixed = [{"messages": [{"role": "system", "content": f"{n}"}, *turns()["messages"]]} for n in range(2)]
    assert write_rows(Dataset.load(mixed), tmp_path).system is None


def test_check_for_a_hosted_model_needs_no_key_and_no_package(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(turns(f"{n}", f"What is {n}?")) + "\n" for n in range(12)))
    code = "import sys; sys.modules['openai'] = None; from tuneport.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "check", str(file), "--for", f"openai:{MODEL}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout)["used"] == 12, done.stderr


def test_a_check_says_that_a_vendor_closes_and_that_a_model_ends() -> None:
    said = " ".join(data_rules(profile("openai"), MODEL).notes)
    assert "creation of fine-tuning jobs for everybody on 6 January 2027." in said
    assert f"{MODEL}, and what is tuned from it, w" in said
    assert "shut down on 14 January 2027." in said
    assert "existing customers until 14 April 2027" in " ".join(data_rules(profile("azure"), MODEL).notes)


def test_an_empty_name_is_not_in_the_table() -> None:
    assert table.find_model(profile("openai"), "") is None
    assert table.find_model(profile("openai"), "gpt-4o") == table.find_model(profile("openai"), MODEL)


def test_lengths_are_checked_if_the_vocabulary_is_here_and_a_note_says_so_if_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    without = data_rules(profile("openai"), MODEL)
    assert (without.count_tokens, without.max_tokens) == (None, None)
    assert "tiktoken.get_encoding('o200k_base')" in without.notes[-1]
    name = "fb374d419588a4632f3f557e76b4b70aebbca790"  # tiktoken's own name for the vocabulary's address
    (tmp_path / name).touch()
    assert data_rules(profile("openai"), MODEL).max_tokens == 65_536


def test_rows_that_are_too_long_are_left_out_and_counted_where_that_was_asked_for(tmp_path: Path) -> None:
    five = tuneport.plugin.DataRules(
        max_tokens=5, count_tokens=lambda rows: [len(row.messages[1].text) for row in rows]
    )
    file = write_rows(Dataset.load([turns("Paris"), turns("Not Paris")]), tmp_path, drop=five)
    assert (file.rows, file.dropped) == (1, 1)


def test_a_backend_of_another_vendor_checks_the_wire_alone() -> None:
    from tuneport_openai.wire import profiles

    lab = profiles.add("lab", "http://127.0.0.1:1/v1")
    result = Dataset.load([turns()]).check(data_rules(lab, "anything"))
    assert not result.errors
