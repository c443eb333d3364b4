"""jobs, show, watch, cancel, resume, report, delete and prune."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import tuneport
import tuneport.plugin
from command_line import Cli, as_json
from tuneport import Plan
from tuneport.cli.progress import RunProgress
from tuneport.cli.runs import _interruption_lines

pytestmark = pytest.mark.usefixtures("parrot")


def test_jobs_show_watch_and_report_open_a_job_by_its_ref(cli: Cli, ran: str, tmp_path: Path) -> None:
    assert ran in cli("jobs")[1]
    assert as_json(cli, "show", ran)["state"]["status"] == "succeeded"
    assert "succeeded" in cli("show", ran)[1]
    code, out, err = cli("watch", ran)
    assert code == 0
    assert "succeeded" in out
    assert "learning by heart" in err
    code, out, _ = cli("report", ran, "-o", tmp_path / "page.html")
    assert code == 0
    assert (tmp_path / "page.html").is_file()


def test_show_prints_the_score_the_root_base_and_the_lineage(cli: Cli, tickets: Path) -> None:
    first = as_json(cli, "run", tickets, "--model", "parrot:gray")["ref"]
    facts = as_json(cli, "show", first)
    assert (facts["root_base"], facts["score"]["grader"]) == ("parrot:gray", "exact")
    assert facts["score"]["base"] == 0.0
    output = cli("show", first)[1]
    assert "0.0% → " in output
    assert "data fingerprint" in output
    assert "data_fingerprint" not in output
    assert "root base" not in output
    second = as_json(cli, "run", tickets, "--model", first, "--holdout", "0")["ref"]
    output = cli("show", second)[1]
    assert re.search(rf"^base +{first} *$", output, re.MULTILINE)
    assert re.search(r"^root base +parrot:gray *$", output, re.MULTILINE)
    assert "\nscore" not in output


def test_jobs_shows_the_steps_of_a_finished_job(cli: Cli, ran: str) -> None:
    for _ in range(2):  # the second time from what the ledger kept
        assert "1/1" in cli("jobs")[1]
        assert as_json(cli, "jobs")["jobs"][0]["total_steps"] == 1


def test_a_refused_start_is_listed_with_its_reason(cli: Cli, tickets: Path) -> None:
    flags = ("run", tickets, "--model", "parrot:gray", "--set", "backends.parrot.refuses=The cage is full.")
    assert cli(*flags)[0] == 1
    (listed,) = as_json(cli, "jobs")["jobs"]
    assert (listed["status"], listed["message"]) == ("failed", "The cage is full.")
    assert "The cage is full." in cli("jobs")[1]
    code, _, err = cli("show", listed["ref"])
    assert code == 2
    assert f"{listed['ref']} was never started: The cage is full." in err
    assert f"tuneport delete {listed['ref']}" in err
    assert cli("delete", listed["ref"], "--yes")[0] == 0
    assert as_json(cli, "jobs")["jobs"] == []


def test_the_reason_of_a_failure_stays_in_the_list(cli: Cli, tickets: Path) -> None:
    cli("run", tickets, "--model", "parrot:gray", "--set", "backends.parrot.stop_at=failed")
    for _ in range(2):  # the second time from what the ledger kept
        assert "it forgot" in cli("jobs")[1]


def test_watch_json_prints_one_event_a_line_from_any_event(cli: Cli, ran: str) -> None:
    lines = [json.loads(line) for line in cli("watch", ran, "--json")[1].splitlines()]
    assert [one["seq"] for one in lines] == [1, 2, 3]
    assert lines[1]["data"]["train_loss"] == 0.5
    assert len(cli("watch", ran, "--json", "--after", "2")[1].splitlines()) == 1


def test_an_unsupported_verb_is_reported(cli: Cli, ran: str) -> None:
    code, _, err = cli("pause", ran)
    assert code == 2
    assert "cannot be paused" in err


def test_watching_an_interrupted_job_exits_3_and_says_how_to_resume(cli: Cli, tickets: Path) -> None:
    ref = str(tuneport.train("parrot:gray", tickets, settings={"stop_at": "interrupted"}).ref)
    assert cli("watch", ref)[0] == 3
    assert cli("resume", ref)[0] == 0
    assert cli("watch", ref)[0] == 0


def test_a_model_that_others_were_trained_from_is_deleted_only_with_force(cli: Cli, ran: str, tickets: Path) -> None:
    heir = tuneport.train(ran, tickets).ref
    code, out, err = cli("delete", ran, "--yes")
    assert (code, out) == (2, "")
    assert f"tuneport delete {heir}" in err
    assert cli("delete", ran, "--yes", "--force")[0] == 0


def test_a_long_message_does_not_widen_the_table_of_jobs(cli: Cli, tickets: Path) -> None:
    flags = ("run", tickets, "--model", "parrot:gray", "--set", f"backends.parrot.refuses={'The cage is full. ' * 20}")
    cli(*flags)
    assert max(map(len, cli("jobs")[1].splitlines())) < 200


def test_an_unknown_ref_says_where_to_look(cli: Cli) -> None:
    assert cli("show", "parrot:nobody")[0] == 2
    code, _, err = cli("show", "nobody")
    assert code == 2
    assert "backend:name" in err
    code, _, err = cli("show", "nosuch:thing")
    assert code == 2
    assert "The backends are " in err
    assert "parrot" in err


def test_delete_lists_what_it_deletes_and_asks(cli: Cli, ran: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, _, err = cli("delete", ran)
    assert code == 1
    assert "the folder" in err
    assert "Nothing was done" in err
    code, _, err = cli("delete", ran)  # standard input is at its end
    assert code == 2
    assert "--yes" in err
    assert cli("show", ran)[0] == 0
    report = Path(cli("report", ran)[1].strip())
    code, out, _ = cli("delete", ran, "--yes")
    assert code == 0
    assert f"deleted the report {report}" in out
    assert not report.exists()
    assert cli("show", ran)[0] == 2
    assert as_json(cli, "jobs")["jobs"] == []


def test_prune_removes_what_nothing_needs_and_keeps_models(cli: Cli, ran: str, own_home: Path) -> None:
    leftover = own_home / "parrot" / ran.partition(":")[2] / "leftover"
    leftover.write_bytes(b"x" * 1000)
    code, out, _ = cli("prune", "--yes")
    assert code == 0
    assert f"checkpoints of {ran}" in out
    assert not leftover.exists()
    assert cli("ask", ran, "card?")[0] == 0


def test_prune_empties_caches_and_keeps_their_folders_for_other_processes(cli: Cli, own_home: Path) -> None:
    kept = tuneport.plugin.home("cache", "tokenizers", "abcd")
    (kept / "tokenizer.json").write_text("{}" * 50)
    assert "caches" in cli("doctor")[1]
    _, out, _ = cli("prune", "--yes")
    assert f"100 bytes  cache tokenizers in {own_home / 'cache'}" in out
    assert not kept.exists()
    assert kept.parent.is_dir()


@pytest.mark.parametrize(
    ("flags", "same"), [([], "The same command"), (["--again"], "The same command without --again")]
)
def test_ctrl_c_leaves_the_job_running_and_says_how_to_continue(
    process: Any, tickets: Path, flags: list[str], same: str
) -> None:
    run = process("run", tickets, "--model", "parrot:gray", "--set", "backends.parrot.stop_at=running", *flags)
    for line in run.stderr:
        if "done" in line:  # the last event of a job that then runs for ever
            break
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=30)
    assert run.returncode == 130
    ref = re.search(r"(\S+) keeps running. Follow it with: tuneport watch", err)[1]
    assert f"{same} finishes the rest." in err
    watch = process("watch", ref, "--json")
    assert [json.loads(watch.stdout.readline())["seq"] for _ in range(3)] == [1, 2, 3]
    watch.send_signal(signal.SIGINT)
    _, err = watch.communicate(timeout=30)
    assert watch.returncode == 130
    assert f"tuneport watch {ref}" in err


def test_ctrl_c_before_the_job_is_confirmed_says_what_may_exist() -> None:
    progress = RunProgress()
    assert _interruption_lines(progress, again=False)[0] == "Nothing was submitted yet. The same command starts over."
    progress.on_plan(Plan(base="parrot:gray", rows=1))
    first, second = _interruption_lines(progress, again=False)
    assert first == "A job may have been submitted: `tuneport jobs` lists it."
    assert second == "The same command continues from there."


def test_sigterm_ends_a_command_cleanly(process: Any, tickets: Path) -> None:
    ref = str(tuneport.train("parrot:gray", tickets, settings={"stop_at": "running"}).ref)
    watch = process("watch", ref, "--json")
    assert watch.stdout.readline()
    watch.send_signal(signal.SIGTERM)
    _, err = watch.communicate(timeout=30)
    assert (watch.returncode, err) == (143, "")
