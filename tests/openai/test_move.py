"""`tuneport move`: an account is listed, a job comes home, its old model's answers are kept; nothing changes there."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import tuneport
from tuneport import Dataset
from tuneport.errors import BudgetError, UsageError
from tuneport.plugin import Record
from tuneport_openai.move.account import read_account, read_job
from tuneport_openai.move.bring import bring, check_rows
from tuneport_openai.wire.client import Wire
from tuneport_openai.wire.profiles import profile
from wire_server import WireServer

TOPICS = ("card", "pin", "refund", "fees")
ROWS = [
    {"messages": [{"role": "user", "content": f"Ticket {n} on {topic}"}, {"role": "assistant", "content": topic}]}
    for n in range(15)
    for topic in TOPICS
]
USED = {"n_epochs": 3, "batch_size": 2, "learning_rate_multiplier": 1.8}


def content(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def vendor(lab: WireServer) -> WireServer:
    """The server with a finished job `ftjob` whose model knows its rows."""
    lab.file_looks = 0
    training = lab.keep("tickets.jsonl", content(ROWS[:40]), "fine-tune")
    validation = lab.keep("more.jsonl", content(ROWS[40:]), "fine-tune")
    method = {"type": "supervised", "supervised": {"hyperparameters": USED}}
    _, made = lab.create(
        {
            "model": "gpt-4.1-mini-2025-04-14",
            "training_file": training["id"],
            "validation_file": validation["id"],
            "seed": 7,
            "method": method,
        }
    )
    job = lab.jobs[made["id"]]
    while job["status"] != "succeeded":
        lab.advance(job)
    known = [row["messages"] for row in ROWS]
    lab.models[job["fine_tuned_model"]] = {asked["content"]: answer["content"] for asked, answer in known}
    lab.job = job  # the one that tests bring home
    lab.asked.clear()
    return lab


def methods(server: WireServer) -> set[str]:
    return {method for method, *_ in server.asked}


def downloads(server: WireServer) -> int:
    return sum(path.endswith("/content") for _, path, *_ in server.asked)


def test_every_job_is_listed_with_what_is_left_of_it_and_nothing_but_gets_are_sent(vendor: WireServer) -> None:
    gone = vendor.job["training_file"]
    del vendor.files[gone]
    account = read_account(Wire(profile("lab")))
    (job,) = account.jobs
    assert (job.status, job.base, job.method, job.seed) == ("succeeded", "gpt-4.1-mini-2025-04-14", "supervised", 7)
    assert job.hyperparameters == USED
    assert job.trained_tokens == 1234
    assert job.listed is True
    assert job.training_file.there is False
    assert job.validation_file.there is True
    assert job.validation_file.name == "more.jsonl"
    assert [one.step for one in job.checkpoints] == [1, 2]
    assert account.notes == ()
    assert methods(vendor) == {"GET"}


def test_three_thousand_jobs_on_thirty_pages_with_nulls_are_all_listed(lab: WireServer) -> None:
    empty = dict.fromkeys(
        ("created_at", "error", "fine_tuned_model", "finished_at", "hyperparameters", "model", "organization_id",
         "result_files", "seed", "trained_tokens", "training_file", "validation_file", "metadata", "method")
    )  # fmt: skip
    for number in range(3000):
        job_id = f"ftjob-{number:05d}"
        status = ("failed", "cancelled", None, 17, "novel")[number % 5]
        lab.jobs[job_id] = {**empty, "id": job_id, "object": "fine_tuning.job", "status": status}
    account = read_account(Wire(profile("lab")))
    assert len({one.id for one in account.jobs}) == 3000
    assert sum(path.startswith("/v1/fine_tuning/jobs?") for _, path, *_ in lab.asked) == 30
    assert methods(lab) == {"GET"}


def test_what_the_key_may_not_list_is_a_note_and_the_jobs_are_still_listed(vendor: WireServer) -> None:
    refusal = {"error": {"message": "You have insufficient permissions.", "type": "x", "param": None, "code": None}}
    vendor.refuse = {"GET /v1/files": (403, refusal, {}), "GET /v1/models": (403, refusal, {})}
    account = read_account(Wire(profile("lab")))
    assert [one.id for one in account.jobs] == [vendor.job["id"]]
    assert account.jobs[0].listed is None
    assert account.jobs[0].training_file.there is None
    assert ["insufficient permissions" in note for note in account.notes] == [True, True]


def test_the_list_prints_as_table_csv_and_json(vendor: WireServer, own_home: Path) -> None:
    vendor.job["user_provided_suffix"] = "=cmd|' /C calc'!A0"
    table = command("move", "lab")
    assert vendor.job["id"] in table.stdout
    assert "listed" in table.stdout
    (row,) = csv.DictReader(io.StringIO(command("move", "lab", "--csv").stdout))
    assert row["id"] == vendor.job["id"]
    assert row["hyperparameters.n_epochs"] == "3"
    assert row["suffix"].startswith("'=")  # no spreadsheet computes it
    found = json.loads(command("move", "lab", "--json").stdout)
    assert found["jobs"][0]["training_file"]["name"] == "tickets.jsonl"


def test_a_job_comes_home_byte_for_byte_with_its_curve_and_is_not_fetched_twice(
    vendor: WireServer, tmp_path: Path
) -> None:
    wire, folder = Wire(profile("lab")), tmp_path / "shop"
    local = bring(wire, read_job(wire, vendor.job["id"]), folder)
    assert local.training.read_bytes() == content(ROWS[:40])
    assert local.validation.read_bytes() == content(ROWS[40:])
    kept = json.loads((folder / "old/record.json").read_text())
    assert kept["files"]["training"]["sha256"] == hashlib.sha256(content(ROWS[:40])).hexdigest()
    assert kept["model"] == f"lab:{vendor.job['fine_tuned_model']}"
    events = list(Record.open(folder / "old").events())
    assert [one.seq for one in events] == list(range(1, len(events) + 1))
    curve = {one.data["step"]: one.data["train_loss"] for one in events if one.kind == "metric"}
    assert curve == {1: 2.5, 2: 1.5, 3: 0.5}  # two from events, the last from the result file
    assert check_rows(local).used == 40
    before = downloads(vendor)
    local.training.write_text("edited\n")
    assert bring(wire, read_job(wire, vendor.job["id"]), folder).training.read_text() == "edited\n"
    assert downloads(vendor) == before
    assert methods(vendor) == {"GET"}


def test_a_missing_file_is_reported_and_a_copy_replaces_it(vendor: WireServer, tmp_path: Path) -> None:
    del vendor.content[vendor.job["training_file"]]
    wire, folder = Wire(profile("lab")), tmp_path / "shop"
    local = bring(wire, read_job(wire, vendor.job["id"]), folder)
    assert local.training is None
    assert vendor.job["training_file"] in local.gone[0]
    assert "--training-file FILE" in local.gone[0]
    mine = tmp_path / "mine.jsonl"
    mine.write_bytes(content(ROWS[:10]))
    local = bring(wire, read_job(wire, vendor.job["id"]), folder, training_file=mine)
    assert local.gone == ()
    assert local.training.read_bytes() == mine.read_bytes()


def command(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tuneport.cli", *arguments], input=stdin, capture_output=True, text=True, timeout=120
    )


def in_pieces(server: WireServer, file_id: str, *, first: int, ranges: bool = True) -> list[str]:
    """Let the first answer with that file break off after `first` bytes. What was asked for by Range is returned."""
    asked: list[str] = []

    def spoil(handler, method: str, path: str) -> bool:
        if not path.endswith(f"/files/{file_id}/content"):
            return False
        data, wanted = server.content[file_id], handler.headers.get("Range", "")
        asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and ranges else 0
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(data) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.end_headers()
        handler.wfile.write(data[start : first if len(asked) == 1 else None])
        handler.wfile.flush()
        handler.close_connection = True
        return True

    server.spoil = spoil
    return asked


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_continues(vendor: WireServer, tmp_path: Path, ranges: bool) -> None:
    file_id = vendor.job["training_file"]
    asked = in_pieces(vendor, file_id, first=1000, ranges=ranges)
    wire = Wire(profile("lab"))
    local = bring(wire, read_job(wire, vendor.job["id"]), tmp_path / "shop")
    assert local.training.read_bytes() == vendor.content[file_id]
    assert asked == ["", "bytes=1000-"]


def environment(own_home: Path) -> dict[str, str]:
    return {**os.environ, "TUNEPORT_HOME": str(own_home)}


def move_process(own_home: Path, *arguments: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tuneport.cli", "move", "lab", *arguments],
        env=environment(own_home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip


def test_a_move_that_is_killed_in_a_download_continues_where_it_was(
    vendor: WireServer, tmp_path: Path, own_home: Path
) -> None:
    file_id, sent, wait = vendor.job["training_file"], threading.Event(), threading.Event()
    asked: list[str] = []

    def spoil(handler, method: str, path: str) -> bool:
        if not path.endswith(f"/files/{file_id}/content"):
            return False
        asked.append(handler.headers.get("Range", ""))
        if len(asked) > 1:
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(vendor.content[file_id])))
        handler.end_headers()
        handler.wfile.write(vendor.content[file_id][:700])
        handler.wfile.flush()
        sent.set()
        wait.wait(30)
        return True

    vendor.spoil = spoil
    folder = tmp_path / "shop"
    process = move_process(own_home, "--job", vendor.job["id"], "-o", str(folder))
    assert sent.wait(30)
    part = folder / ".train.jsonl.part"
    while not part.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    wait.set()
    assert not (folder / "train.jsonl").exists()
    done = move_process(own_home, "--job", vendor.job["id"], "-o", str(folder))
    printed, _ = done.communicate(timeout=60)
    assert done.returncode == 0, printed
    assert (folder / "train.jsonl").read_bytes() == vendor.content[file_id]
    assert not list(folder.glob(".*.part"))


def test_a_full_disk_ends_it_with_a_remedy_and_the_same_command_continues(
    vendor: WireServer, tmp_path: Path, own_home: Path
) -> None:
    folder = tmp_path / "shop"
    arguments = ("--job", vendor.job["id"], "-o", str(folder))

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    full = move_process(own_home, *arguments, preexec_fn=little_room)
    printed, _ = full.communicate(timeout=60)
    assert full.returncode == 2, printed
    assert "train.jsonl" in printed
    assert "Free some space" in printed
    assert "Traceback" not in printed
    done = move_process(own_home, *arguments)
    printed, _ = done.communicate(timeout=60)
    assert done.returncode == 0, printed
    assert (folder / "train.jsonl").read_bytes() == content(ROWS[:40])


def test_a_folder_of_something_else_is_left_alone(vendor: WireServer, tmp_path: Path) -> None:
    wire = Wire(profile("lab"))
    job = read_job(wire, vendor.job["id"])
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="already exists"):
        bring(wire, job, folder)
    assert [one.name for one in folder.iterdir()] == ["thesis.txt"]


def test_the_config_says_what_the_vendor_used_and_runs_at_another_vendor(vendor: WireServer, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    done = command("move", "lab", "--job", vendor.job["id"], "-o", str(folder), "--model", "lab:base")
    assert done.returncode == 0, done.stderr
    config = YAML(typ="safe").load(folder / "tune.yaml")
    assert config["model"] == "lab:base"
    assert config["data"] == {"train": "train.jsonl", "validation": "validation.jsonl"}
    assert (config["train"]["epochs"], config["train"]["seed"]) == (3, 7)
    assert config["backends"]["lab"] == {"batch_size": 2, "learning_rate_multiplier": 1.8}
    assert config["compare"] == {"record": "old"}
    found = tuneport.run(folder / "tune.yaml")
    assert found.job.state().status == "succeeded"
    assert "Loss of lab:ft:gpt-4.1-mini-2025-04-14" in found.report.read_text().replace("<wbr>", "")


def test_without_a_model_the_config_leaves_the_choice_to_a_person(vendor: WireServer, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    done = command("move", "lab", "--job", vendor.job["id"], "-o", str(folder))
    assert done.returncode == 0, done.stderr
    assert "Apache-2.0" in done.stdout
    config = YAML(typ="safe").load(folder / "tune.yaml")
    assert "model" not in config
    refused = command("plan", str(folder / "tune.yaml"))
    assert refused.returncode == 2
    assert "model" in refused.stderr


def test_a_config_that_was_edited_is_left_alone(vendor: WireServer, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    arguments = ("move", "lab", "--job", vendor.job["id"], "-o", str(folder), "--model", "lab:base")
    command(*arguments)
    mine = (folder / "tune.yaml").read_text().replace("epochs: 3", "epochs: 4")
    (folder / "tune.yaml").write_text(mine)
    done = command(*arguments)
    assert "was edited" in done.stdout
    assert (folder / "tune.yaml").read_text() == mine
    assert "epochs: 3" in (folder / "tune.new.yaml").read_text()


def test_a_reinforcement_job_says_that_it_is_not_trained_here_and_what_is_nearest(
    vendor: WireServer, tmp_path: Path
) -> None:
    vendor.job["method"] = {"type": "reinforcement", "reinforcement": {"hyperparameters": {"n_epochs": 2}}}
    done = command("move", "lab", "--job", vendor.job["id"], "-o", str(tmp_path / "shop"))
    assert done.returncode == 0, done.stderr
    assert "torch has no reinforcement" in done.stdout
    assert "--distill" in done.stdout
    assert YAML(typ="safe").load(tmp_path / "shop/tune.yaml")["train"].get("method", "sft") == "sft"


def ask(vendor: WireServer, folder: Path, *arguments: str):
    return command("move", "lab", "--job", vendor.job["id"], "-o", str(folder), "--model", "lab:base", *arguments)


def test_the_old_answers_are_kept_and_compared(vendor: WireServer, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    done = ask(vendor, folder, "--answers", "8", "--yes")
    assert done.returncode == 0, done.stderr
    assert "the cost is unknown" in done.stderr
    assert len(Record.open(folder / "old").answers) == 8
    holdout, rest = Dataset.load(folder / "holdout.jsonl"), Dataset.load(folder / "validation-rest.jsonl")
    assert (len(holdout), len(rest)) == (8, 12)
    vendor.asked.clear()
    ask(vendor, folder, "--answers", "8", "--yes")
    assert methods(vendor) == {"GET"}  # nothing is asked twice
    lines = (folder / "old/answers.jsonl").read_text().splitlines(keepends=True)
    wrong = json.loads(lines[0])
    (folder / "old/answers.jsonl").write_text(json.dumps({**wrong, "answer": "nonsense"}) + "\n" + "".join(lines[1:]))
    found = tuneport.run(folder / "tune.yaml")
    recorded = found.comparison.recorded
    assert recorded.rows == 8
    assert recorded.side.right == 7
    assert [one.recorded for one in recorded.examples] == ["nonsense"]
    assert "nonsense" in str(found.comparison)
    assert "answers differently" in found.report.read_text()


def test_answers_stop_within_the_budget_and_continue_with_more(vendor: WireServer, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    # An answer of at most 10 tokens costs at most 10 * 1000 / 1e6 = 0.01, and uses 3: each row 0.003.
    (tmp_path / "rows.jsonl").write_bytes(content(ROWS[:40]))
    price = ("--price", "0,1000", "--max-tokens", "10", "--yes", "--answers", "40", "--data", f"{tmp_path}/rows.jsonl")
    refused = ask(vendor, folder, "--budget", "0.15", *price)
    assert refused.returncode == 1
    assert "--budget is $0.15" in refused.stderr
    assert (folder / "tune.yaml").exists()  # the rest is done all the same
    stopped = ask(vendor, folder, "--budget", "0.2", *price)  # after 16 rows 0.048, and the next 16 may cost 0.16
    assert stopped.returncode == 0, stopped.stderr
    assert "16 of 40 rows are answered" in stopped.stderr
    assert len(Record.open(folder / "old").answers) == 16
    done = ask(vendor, folder, "--budget", "0.21", *price)
    assert len(Record.open(folder / "old").answers) == 40, done.stderr
    assert json.loads((folder / "old/spent.json").read_text())["usd"] == pytest.approx(40 * 0.003)


def test_a_budget_without_a_known_price_asks_nothing(vendor: WireServer, tmp_path: Path) -> None:
    refused = ask(vendor, tmp_path / "shop", "--answers", "5", "--budget", "1", "--yes")
    assert refused.returncode == 1
    assert "--price" in refused.stderr
    assert methods(vendor) == {"GET"}
    assert issubclass(BudgetError, tuneport.TuneportError)


def test_nothing_is_asked_without_confirmation(vendor: WireServer, tmp_path: Path) -> None:
    done = command(
        "move", "lab", "--job", vendor.job["id"], "-o", str(tmp_path / "shop"), "--answers", "5", stdin="n\n"
    )
    assert done.returncode == 0
    assert methods(vendor) == {"GET"}
    assert not (tmp_path / "shop/holdout.jsonl").exists()


def test_distilled_rows_have_the_old_answers_and_a_notice_of_the_terms(vendor: WireServer, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    name = vendor.job["fine_tuned_model"]
    vendor.models[name] = {asked: f"old says {answer}" for asked, answer in vendor.models[name].items()}
    done = ask(vendor, folder, "--answers", "6", "--distill", "--yes")
    assert "terms" in done.stderr
    rows = [json.loads(line) for line in (folder / "distilled.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert all(row["messages"][-1]["content"].startswith("old says ") for row in rows)
    assert YAML(typ="safe").load(folder / "tune.yaml")["data"]["train"] == "distilled.jsonl"
