"""`tuneport move` where jobs, files and answers are odd: what is lost is said, and nothing is asked or spent twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ruamel.yaml import YAML

from tuneport import Dataset, Lineage
from tuneport.cli.app import invoke
from tuneport.errors import UsageError
from tuneport.plugin import Record
from tuneport_openai.move.account import read_account, read_job
from tuneport_openai.move.answers import price_of, read_total_spent
from tuneport_openai.move.bring import bring
from tuneport_openai.move.folder import hold_folder
from tuneport_openai.move.table import csv_text
from tuneport_openai.wire.client import Wire
from tuneport_openai.wire.profiles import profile
from wire_server import WireServer


def content(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def row(number: int, answer: str | None = None) -> dict[str, Any]:
    turn = {"role": "assistant", "content": answer or f"answer {number}"}
    return {"messages": [{"role": "user", "content": f"question {number}"}, turn]}


ROWS = [row(number) for number in range(30)]


def finished(
    lab: WireServer, training: bytes, validation: bytes | None, method: str = "supervised", **used: Any
) -> dict[str, Any]:
    """A finished job of the server; its model answers `old answer`."""
    lab.file_looks = 0
    files = [lab.keep("t.jsonl", training, "fine-tune")["id"]]
    files.append(lab.keep("v.jsonl", validation, "fine-tune")["id"] if validation is not None else None)
    name = f"ft:gpt-4.1-mini-2025-04-14:acme:tickets:{lab.new_id('x')}"
    _, made = lab.create(
        {
            "model": "gpt-4.1-mini-2025-04-14",
            "training_file": files[0],
            "validation_file": files[1],
            "seed": 7,
            "method": {"type": method, method: {"hyperparameters": used}},
        }
    )
    job = lab.jobs[made["id"]]
    results = lab.keep("results.csv", b"step,train_loss\n1,2.0\n", "fine-tune-results")
    job |= {
        "status": "succeeded",
        "stage": 3,
        "fine_tuned_model": name,
        "finished_at": 1,
        "result_files": [results["id"]],
    }
    lab.models[name] = {"": "old answer"}
    lab.asked.clear()
    return job


Move = Callable[..., SimpleNamespace]


@pytest.fixture
def move(capfd: pytest.CaptureFixture[str]) -> Move:
    """The command, with its code and all that it printed."""

    def run(*arguments: str) -> SimpleNamespace:
        code = invoke(["move", "lab", *arguments])
        printed = capfd.readouterr()
        return SimpleNamespace(code=code, text=printed.out + printed.err)

    return run


def questions(lab: WireServer) -> list[str]:
    return [json.loads(body)["messages"][-1]["content"] for method, _, _, body in lab.asked if method == "POST"]


def config_of(folder: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(folder / "tune.yaml")


def test_a_job_is_shown_with_all_facts_without_a_folder(lab: WireServer, move: Move) -> None:
    job = finished(lab, content(ROWS), None, n_epochs=3)
    done = move("--job", job["id"])
    assert "tickets" in done.text  # the suffix, which only the model's name tells
    assert "epochs 3, seed 7" in done.text
    assert "step 1" in done.text
    assert f"--job {job['id']} -o tickets" in done.text
    assert "ckpt-step-2" in move("--job", job["id"], "--json").text


def test_a_job_that_is_not_there_says_where_to_look(lab: WireServer, move: Move) -> None:
    done = move("--job", "ftjob-of-nobody")
    assert done.code == 2
    assert "List the jobs: tuneport move lab" in done.text


def test_ids_that_a_shell_would_read_are_quoted(lab: WireServer, move: Move) -> None:
    job = finished(lab, content(ROWS), None)
    lab.jobs["x; rm -rf ~"] = {**job, "id": "x; rm -rf ~", "created_at": 2**31}
    assert "--job 'x; rm -rf ~'" in move().text


def test_the_metadata_of_a_job_is_one_cell(lab: WireServer) -> None:
    job = finished(lab, content(ROWS), None)
    job["metadata"] = {"=1+1": "=cmd()", "b": "\x1b[31m"}
    text = csv_text(read_account(Wire(profile("lab"))))
    assert "metadata.=1+1" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_a_file_that_is_not_available_does_not_end_the_move(lab: WireServer, tmp_path: Path, status: int) -> None:
    job = finished(lab, content(ROWS), None)
    said = {"error": {"message": "Downloads are disabled for this account.", "type": "x", "param": None, "code": None}}
    for file in (job["training_file"], *job["result_files"]):
        lab.refuse[f"GET /v1/files/{file}/content"] = (status, said, {})
    wire = Wire(profile("lab"))
    local = bring(wire, read_job(wire, job["id"]), tmp_path / "shop")
    assert len(local.gone) == 2
    assert "--training-file FILE" in local.gone[0]
    assert (status in (404, 410)) or "Downloads are disabled" in local.gone[0]


def test_a_file_with_more_bytes_than_listed_is_not_received_to_its_end(lab: WireServer, tmp_path: Path) -> None:
    job = finished(lab, content(ROWS), None)
    lab.content[job["training_file"]] = content(ROWS) + b" " * 3 * 2**20
    wire = Wire(profile("lab"))
    with pytest.raises(Exception, match=r"which has"):
        bring(wire, read_job(wire, job["id"]), tmp_path / "shop")
    assert not list((tmp_path / "shop").glob(".*.part"))


def test_a_copy_is_not_taken_for_the_beginning_of_a_download_nor_passed_over(lab: WireServer, tmp_path: Path) -> None:
    job = finished(lab, content(ROWS), None)
    wire, folder, mine = Wire(profile("lab")), tmp_path / "shop", tmp_path / "mine.jsonl"
    mine.write_bytes(content(ROWS[:3]))
    bring(wire, read_job(wire, job["id"]), folder)
    with hold_folder(folder):
        (folder / "train.jsonl").unlink()
        (folder / ".train.jsonl.copy").write_bytes(b"{half a copy")  # left by a kill
        local = bring(wire, read_job(wire, job["id"]), folder)
        assert local.training is not None
        assert local.training.read_bytes() == content(ROWS)
        with pytest.raises(UsageError, match="already exists"):
            bring(wire, read_job(wire, job["id"]), folder, training_file=mine)


def test_a_folder_of_another_job_says_whose_it_is(lab: WireServer, tmp_path: Path) -> None:
    first, second = (finished(lab, content(ROWS), None) for _ in range(2))
    wire = Wire(profile("lab"))
    bring(wire, read_job(wire, first["id"]), tmp_path / "shop")
    with pytest.raises(UsageError, match=f"has the job lab {first['id']}, not lab {second['id']}") as refused:
        bring(wire, read_job(wire, second["id"]), tmp_path / "shop")
    assert "damaged" not in refused.value.message


def test_two_processes_do_not_move_into_one_folder_and_a_killed_start_does_not_block_it(tmp_path: Path) -> None:
    folder = tmp_path / "my shop"
    (folder / "old").mkdir(parents=True)
    (folder / "old/.record.json.part").write_text("{")  # all that a kill has left
    with hold_folder(folder), pytest.raises(UsageError, match="Another process"), hold_folder(folder):
        pass
    with hold_folder(folder):
        pass
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is not the folder of a job"), hold_folder(folder):
        pass


def test_a_config_whose_mark_was_written_alone_is_not_taken_for_an_edited_one(
    lab: WireServer, move: Move, tmp_path: Path
) -> None:
    job = finished(lab, content(ROWS), None, n_epochs=3)
    arguments = ("--job", job["id"], "-o", str(tmp_path / "shop"), "--model")
    move(*arguments, "lab:base")
    before = (tmp_path / "shop/tune.yaml").read_text()
    move(*arguments, "lab:other")
    (tmp_path / "shop/tune.yaml").write_text(before)  # as a kill between the mark and the config leaves it
    assert "was edited" not in move(*arguments, "lab:other").text
    assert config_of(tmp_path / "shop")["model"] == "lab:other"


@pytest.mark.parametrize(
    ("used", "epochs", "batch"),
    [({"n_epochs": "3", "batch_size": 2.0}, 3, 2), ({"n_epochs": 77, "batch_size": "auto"}, 77, None),
     ({"n_epochs": 2.5, "batch_size": -1}, None, None), ({"n_epochs": {}, "batch_size": 10**400}, None, None)],
)  # fmt: skip
def test_hyperparameters_of_odd_types_are_read_or_noted(
    lab: WireServer, move: Move, tmp_path: Path, used: dict[str, Any], epochs: int | None, batch: int | None
) -> None:
    job = finished(lab, content(ROWS), None, **used)
    done = move("--job", job["id"], "-o", str(tmp_path / "shop"), "--model", "lab:base")
    config = config_of(tmp_path / "shop")
    assert config["train"].get("epochs") == epochs
    assert (config["backends"]["lab"] or {}).get("batch_size") == batch
    assert (used["n_epochs"] != 2.5) or "n_epochs 2.5 is not a number of epochs" in done.text


def test_rows_with_the_same_question_are_asked_once_and_not_validated_on(
    lab: WireServer, move: Move, tmp_path: Path
) -> None:
    validation = [row(number % 4, f"answer {number}") for number in range(8)] + ROWS[20:24]
    job = finished(lab, content(ROWS[:10]), content(validation))
    folder = tmp_path / "shop"
    done = move("--job", job["id"], "-o", str(folder), "--model", "lab:base", "--answers", "9", "-y")
    asked = questions(lab)
    assert len(set(asked)) == len(asked)
    held = {one.messages[0].text for one in Dataset.load(folder / "holdout.jsonl")}
    rest = {one.messages[0].text for one in Dataset.load(folder / "validation-rest.jsonl")}
    assert not held & rest
    assert "training rows are also among the validation or held-out rows" in done.text


def test_rows_of_the_user_leave_the_validation_file_for_validation(lab: WireServer, move: Move, tmp_path: Path) -> None:
    job = finished(lab, content(ROWS[:10]), content(ROWS[10:20]))
    (tmp_path / "rows.jsonl").write_bytes(content(ROWS[20:]))
    folder = tmp_path / "shop"
    move("--job", job["id"], "-o", str(folder), "--model", "lab:base", "--answers", "5",
         "--data", str(tmp_path / "rows.jsonl"), "-y")  # fmt: skip
    data = config_of(folder)["data"]
    assert data["holdout"] == "holdout.jsonl"
    assert len(Dataset.load(folder / data["validation"])) == 10


def test_answers_that_a_limit_cut_are_reported_and_asked_again_with_a_higher_one(
    lab: WireServer, move: Move, tmp_path: Path
) -> None:
    job = finished(lab, content(ROWS), content(ROWS[:4]))

    def twist(method: str, path: str, answer: Any) -> Any:
        if path.endswith("/chat/completions"):
            limit = json.loads(lab.asked[-1][3])["max_tokens"]
            answer["choices"][0]["finish_reason"] = "length" if limit < 50 else "stop"
        return answer

    lab.twist = twist
    arguments = ("--job", job["id"], "-o", str(tmp_path / "shop"), "--model", "lab:base", "--answers", "4", "-y")
    done = move(*arguments, "--max-tokens", "20")
    assert "4 of 4 answers were cut at 20 tokens" in done.text
    move(*arguments, "--max-tokens", "20")
    assert len(questions(lab)) == 4
    move(*arguments, "--max-tokens", "60")
    assert len(questions(lab)) == 8
    assert not any(one.cut for one in Record.open(tmp_path / "shop/old").answers.values())


def test_tool_calls_of_the_old_model_become_calls_to_train_on(lab: WireServer, move: Move, tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    rows = [{**row(number), "tools": [tool]} for number in range(6)]
    job = finished(lab, content(rows), None)
    folder = tmp_path / "shop"
    done = move("--job", job["id"], "-o", str(folder), "--model", "lab:base", "--answers", "6", "--distill", "-y")
    assert done.code == 0, done.text
    kept = list(Dataset.load(folder / "distilled.jsonl"))
    assert [one.messages[-1].tool_calls[0]["function"]["name"] for one in kept] == ["weather"] * 6


def test_a_preference_job_that_is_distilled_trains_on_answers(lab: WireServer, move: Move, tmp_path: Path) -> None:
    pairs = [
        {
            "input": {"messages": [{"role": "user", "content": f"question {number}"}]},
            "preferred_output": [{"role": "assistant", "content": "good"}],
            "non_preferred_output": [{"role": "assistant", "content": "bad"}],
        }
        for number in range(6)
    ]
    job = finished(lab, content(pairs), None, "dpo", beta=0.2)
    folder = tmp_path / "shop"
    move("--job", job["id"], "-o", str(folder), "--model", "lab:base")
    assert config_of(folder)["train"]["method"] == "dpo"
    assert config_of(folder)["backends"]["lab"] == {"beta": 0.2}
    done = move("--job", job["id"], "-o", str(folder), "--model", "lab:base", "--answers", "6", "--distill", "-y")
    assert config_of(folder)["train"].get("method", "sft") == "sft"
    assert config_of(folder)["backends"]["lab"] is None
    assert "the config says sft" in done.text


def test_a_reinforcement_job_is_distilled_from_prompts_and_its_grader_goes_along(
    lab: WireServer, move: Move, tmp_path: Path
) -> None:
    prompts = [{"messages": [{"role": "user", "content": f"question {number}"}], "sum": number} for number in range(6)]
    job = finished(lab, content(prompts), None, "reinforcement", eval_interval=5)
    grader = {"type": "string_check", "name": "same", "operation": "eq", "input": "{{sample.output_text}}",
              "reference": "{{item.sum}}"}  # fmt: skip
    job["method"]["reinforcement"]["grader"] = grader
    folder = tmp_path / "shop"
    move("--job", job["id"], "-o", str(folder), "--model", "lab:base")
    found = config_of(folder)["backends"]["lab"]
    assert (found["grader"]["operation"], found["eval_interval"]) == ("eq", 5)
    done = move("--job", job["id"], "-o", str(folder), "--model", "lab:base", "--answers", "6", "--distill", "-y")
    assert done.code == 0, done.text
    assert {one.messages[-1].text for one in Dataset.load(folder / "distilled.jsonl")} == {"old answer"}
    assert json.loads(lab.asked[-1][3]).get("max_tokens", 1024) == 1024  # nobody knows how long its answers are


def test_what_may_have_been_spent_is_on_the_disk_before_it_is(lab: WireServer, move: Move, tmp_path: Path) -> None:
    job = finished(lab, content(ROWS), content(ROWS[:4]))
    folder = tmp_path / "shop"
    seen: list[float] = []

    def look(handler: Any, method: str, path: str) -> bool:
        if method == "POST":
            seen.append(json.loads((folder / "old/spent.json").read_text())["reserved"])
        return False

    lab.spoil = look
    arguments = ("--job", job["id"], "-o", str(folder), "--answers", "4", "--price", "0,1000", "--max-tokens", "10")
    move(*arguments, "-y")
    assert seen == [pytest.approx(0.04)] * 4
    wire = Wire(profile("lab"))
    local = bring(wire, read_job(wire, job["id"]), folder)
    assert read_total_spent(local) == pytest.approx(4 * 0.003)
    (folder / "old/spent.json").write_text('{"usd": 0.01, "reserved": 0.04}')  # killed while it asked
    assert read_total_spent(local) == pytest.approx(0.05)


def test_the_progress_and_the_origin_of_the_model_are_reported(lab: WireServer, move: Move, tmp_path: Path) -> None:
    job = finished(lab, content(ROWS), content(ROWS[:2]), n_epochs=3)
    wire = Wire(profile("lab"))
    reported: list[Any] = []
    read_account(wire, on_progress=reported.append)
    assert reported[0] == "Reading the jobs of lab: 1"
    bring(wire, read_job(wire, job["id"]), tmp_path / "shop", on_progress=lambda *one: reported.append(one))
    size = len(content(ROWS))
    assert ("train.jsonl", size, size) in reported
    move("--job", job["id"], "-o", str(tmp_path / "shop"))
    lineage = Lineage.from_dict(json.loads((tmp_path / "shop/old/lineage.json").read_text()))
    assert (lineage.base, lineage.job) == ("lab:gpt-4.1-mini-2025-04-14", f"lab:{job['id']}")
    assert lineage.data_fingerprint == Dataset.load(tmp_path / "shop/train.jsonl").fingerprint
    assert lineage.settings["n_epochs"] == 3


def test_a_text_that_is_not_a_price_is_refused(lab: WireServer) -> None:
    wire = Wire(profile("lab"))
    for text in ("", "1", "1,2,3", "a,b", "nan,1", "-1,1", "inf,1"):
        with pytest.raises(UsageError, match="two prices"):
            price_of(wire, "gpt-4.1-mini", text)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="Permission denied"), hold_folder(tmp_path / "shop"):
        pass
    tmp_path.chmod(0o700)
