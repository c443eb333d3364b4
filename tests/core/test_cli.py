"""The command line, typed as a user types it, over a stranger's small backend."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tuneport
from tuneport.cli.app import commands, invoke

Cli = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("parrot")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    from tuneport.cli import terminal

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def typed(*arguments: str | Path) -> tuple[int, str, str]:
        terminal.out.cache_clear()
        terminal.err.cache_clear()
        code = invoke([str(one) for one in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return typed


def as_json(cli: Cli, *arguments: str | Path) -> dict[str, Any]:
    code, out, err = cli(*arguments, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    assert found["version"] == 1
    return found


@pytest.fixture
def ran(cli: Cli, tickets: Path) -> str:
    """The ref of a job that a run has carried to its end."""
    found = as_json(cli, "run", tickets, "--model", "parrot:grey", "--holdout", "0")
    return str(found["ref"])


# check, fix, preview, init


def test_check_says_the_counts_and_exits_0_when_no_error_stands(cli: Cli, tickets: Path) -> None:
    code, out, _ = cli("check", tickets)
    assert code == 0
    assert "read 12 = used 12 + rejected 0" in out


def test_check_json_has_the_promised_keys(cli: Cli, tickets: Path) -> None:
    found = as_json(cli, "check", tickets)
    assert {"file", "format", "read", "used", "rejected", "fingerprint", "diagnostics", "stats"} <= set(found)
    for one in found["diagnostics"]:
        assert set(one) == {"file", "line", "pointer", "code", "severity", "message", "remedy"}


def test_check_exits_1_and_names_line_pointer_code_and_remedy_when_an_error_stands(cli: Cli, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    good = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
    bad.write_text(f'{good}\n{{"messages": [{{"role": "usr", "content": "a"}}]}}\n')
    code, out, _ = cli("check", bad)
    assert code == 1
    assert "read 2 = used 1 + rejected 1" in out
    assert "unknown-role" in out
    assert "line 2" in out
    assert "/messages/0/role" in out


def test_fix_writes_a_new_file_and_says_what_changed(cli: Cli, tmp_path: Path) -> None:
    messy = tmp_path / "messy.csv"
    messy.write_text("text,label\n  hello there  ,greeting\nbye now,farewell\nbye now,farewell\n")
    code, out, _ = cli("fix", messy, "-o", tmp_path / "clean.jsonl")
    assert code == 0
    assert "read 3 = written 2 + dropped 1" in out
    assert "hello there" in out
    assert cli("check", tmp_path / "clean.jsonl")[0] == 0


def test_fix_applies_what_is_named_and_keeps_every_change(cli: Cli, tmp_path: Path) -> None:
    messy, held_out = tmp_path / "messy.csv", tmp_path / "holdout.csv"
    messy.write_text("text,label\n hello,greeting\nHELLO,greeting\nbye now,farewell\nnew,other\n")
    held_out.write_text("text,label\nbye now,farewell\n")
    named = ["--only", "safe", "--only", "near-duplicate", "--only", "leaked-row"]
    files = ["-o", tmp_path / "clean.jsonl", "--against", held_out, "--changes", tmp_path / "changes.jsonl"]
    code, out, err = cli("fix", messy, *files, *named)
    assert code == 0, err
    assert "read 4 = written 2 + dropped 2" in out
    changes = [json.loads(line) for line in (tmp_path / "changes.jsonl").read_text().splitlines()]
    assert [one["code"] for one in changes] == ["edge-whitespace", "near-duplicate", "leaked-row"]


def test_preview_marks_what_is_trained_on(cli: Cli, tickets: Path) -> None:
    code, out, _ = cli("preview", tickets, "--rows", "1")
    assert code == 0
    assert "⟦card_arrival⟧" in out


def test_init_writes_a_config_that_runs(cli: Cli, tickets: Path, tmp_path: Path) -> None:
    code, out, _ = cli("init", tickets, "--model", "parrot:grey")
    assert code == 0
    assert "tuneport run tune.yaml" in out
    told = (tmp_path / "tune.yaml").read_text()
    assert "With parrot, auto is 1." in " ".join(told.replace("#", "").split())
    assert cli("init", tickets)[0] == 2  # it is there already
    code, out, err = cli("run", "tune.yaml")
    assert code == 0, err
    assert "report" in out


def test_init_writes_down_how_odd_columns_are_read(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text("body,queue\nwhere is it,post\npay me,money\nno pin,card\nlost it,card\n")
    flags = ("--column", "text=body", "--column", "label=queue", "--system", "One word.")
    assert cli("init", "odd.csv", "--model", "parrot:grey", *flags)[0] == 0
    found = as_json(cli, "plan", "tune.yaml")["split"]
    assert found["train"] + found["holdout"] == 4


# plan, run


def test_plan_starts_nothing(cli: Cli, tickets: Path) -> None:
    code, out, _ = cli("plan", tickets, "--model", "parrot:grey")
    assert code == 0
    assert "tokens" in out
    assert "counted" in out
    assert as_json(cli, "jobs")["jobs"] == []


def test_run_goes_through_all_stages_and_leaves_a_report(cli: Cli, tickets: Path) -> None:
    code, out, err = cli("run", tickets, "--model", "parrot:grey", "--holdout", "0.3")
    assert code == 0, err
    for word in ("checked", "split", "planned", "job"):
        assert word in err
    assert re.search(r"asking base (\d+)/\1\n", err)
    report = Path(re.search(r"report\s+(\S+)", out)[1])
    assert report.read_text().lower().startswith("<!doctype html>")
    assert "tuneport ask parrot:tickets-" in out


def test_the_same_run_again_finds_the_finished_one_and_again_starts_anew(cli: Cli, tickets: Path, ran: str) -> None:
    again = as_json(cli, "run", tickets, "--model", "parrot:grey", "--holdout", "0")
    assert again["ref"] == ran
    anew = as_json(cli, "run", tickets, "--model", "parrot:grey", "--holdout", "0", "--again")
    assert anew["ref"] != ran


def test_the_same_run_resumes_what_was_interrupted(cli: Cli, tickets: Path) -> None:
    flags = ("run", tickets, "--model", "parrot:grey", "--set", "backends.parrot.stop_at=interrupted")
    code, _, err = cli(*flags)
    assert code == 0, err
    assert "goes on from its last whole checkpoint" in err


def test_a_run_that_does_not_wait_resumes_too(cli: Cli, tickets: Path) -> None:
    flags = ("run", tickets, "--model", "parrot:grey", "--set", "backends.parrot.stop_at=paused", "--no-wait")
    code, out, err = cli(*flags)
    assert code == 0, err
    assert "goes on from its last whole checkpoint" in err
    assert "Ctrl-C" not in err
    assert "has succeeded. The same command without --no-wait finishes what is left." in out
    code, out, err = cli(*flags[:-1])
    assert code == 0, err
    assert "learning by heart" not in err  # that was earlier
    assert "report " in out


def test_a_failed_job_is_told_and_does_not_stand_in_the_way(cli: Cli, tickets: Path) -> None:
    flags = ("run", tickets, "--model", "parrot:grey", "--set", "backends.parrot.stop_at=failed")
    code, _, err = cli(*flags)
    assert code == 1
    assert "failed: it forgot" in err
    first = as_json(cli, "jobs")["jobs"]
    cli(*flags)
    assert len(as_json(cli, "jobs")["jobs"]) == len(first) + 1


def test_a_budget_stops_a_run_before_it_starts(cli: Cli, tickets: Path) -> None:
    flags = ("run", tickets, "--model", "parrot:grey", "--set", "budget.usd=5")
    code, _, err = cli(*flags, "--set", "backends.parrot.usd=7")
    assert code == 1
    assert "7.00 US dollars" in err
    assert "budget.usd allows 5" in err
    code, _, err = cli(*flags, "--set", "backends.parrot.usd=null")
    assert code == 1
    assert "unknown number of US dollars" in err
    assert as_json(cli, "jobs")["jobs"] == []


def test_a_grader_that_cannot_read_the_data_stops_a_run_before_it_starts(cli: Cli, tickets: Path) -> None:
    code, _, err = cli("run", tickets, "--model", "parrot:grey", "--set", "compare.grader=nosuch")
    assert code == 2
    assert "nosuch" in err
    assert as_json(cli, "jobs")["jobs"] == []


def test_data_with_errors_stops_a_run_unless_it_is_told_to_skip_them(cli: Cli, tmp_path: Path, tickets: Path) -> None:
    rows = [json.dumps({"text": f"message number {n} about something", "label": "ab"[n % 2]}) for n in range(20)]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join([*rows, '{"text": "no label"}']) + "\n")
    code, _, err = cli("run", data, "--model", "parrot:grey")
    assert code == 1
    assert "1 of 21 rows are rejected" in err
    assert "tuneport fix" in err
    found = as_json(cli, "run", data, "--model", "parrot:grey", "--set", "data.on_error=skip")
    assert found["check"]["read"] == 21
    assert found["check"]["used"] == 20


def test_data_without_a_model_says_what_to_type(cli: Cli, tickets: Path) -> None:
    code, _, err = cli("run", tickets)
    assert code == 2
    assert f"tuneport run {tickets} --model torch:smollm2-135m" in err
    assert f"tuneport plan {tickets} --model torch:smollm2-135m" in cli("plan", tickets)[2]


def test_a_config_error_names_file_line_key_and_the_nearest_name(cli: Cli, tickets: Path, tmp_path: Path) -> None:
    (tmp_path / "tune.yaml").write_text(f"model: parrot:grey\ndata: {{train: {tickets}}}\ntrain:\n  epoch: 3\n")
    code, _, err = cli("run", "tune.yaml")
    assert code == 2
    assert "tune.yaml:4" in err
    assert "train.epoch" in err
    assert "epochs" in err


def test_a_flag_goes_over_the_config_file(cli: Cli, tickets: Path, tmp_path: Path) -> None:
    (tmp_path / "tune.yaml").write_text(f"model: parrot:grey\ndata: {{train: {tickets}}}\ntrain: {{suffix: mine}}\n")
    assert as_json(cli, "run", "tune.yaml")["ref"].startswith("parrot:mine-")
    assert as_json(cli, "run", "tune.yaml", "--suffix", "yours")["ref"].startswith("parrot:yours-")


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--epochs", "0", "--epochs: should be at least 1 or 'auto'"),
        ("--epochs", "many", "--epochs: should be a whole number or 'auto'"),
        ("--seed", "-1", "--seed: should be at least 0"),
        ("--suffix", "two words", "--suffix: should be at most 40 letters"),
        ("--holdout", "1.5", "--holdout: should be a share of the rows"),
        ("--model", "grey", "--model: should be of the form backend:name"),
        ("--set", "train.epochs=0", "--set train.epochs: should be at least 1 or 'auto'"),
    ],
)
def test_a_wrong_value_is_told_by_the_option_that_gave_it(
    cli: Cli, tickets: Path, tmp_path: Path, flag: str, value: str, said: str
) -> None:
    (tmp_path / "tune.yaml").write_text(f"model: parrot:grey\ndata: {{train: {tickets}}}\n")
    for given in (["tune.yaml"], [tickets, *(["--model", "parrot:grey"] if flag != "--model" else [])]):
        code, _, err = cli("run", *given, flag, value)
        assert code == 2
        assert said in err


def test_a_suffix_that_looks_like_a_number_is_text(cli: Cli, tickets: Path, tmp_path: Path) -> None:
    (tmp_path / "tune.yaml").write_text(f"model: parrot:grey\ndata: {{train: {tickets}}}\n")
    assert as_json(cli, "run", "tune.yaml", "--suffix", "2024")["ref"].startswith("parrot:2024-")


def test_a_secret_is_in_no_file_and_no_output(
    cli: Cli, tickets: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARROT_KEY", "polly-wants-a-cracker")
    flags = ("run", tickets, "--model", "parrot:grey", "--set", "backends.parrot.key=${PARROT_KEY}")
    code, out, err = cli(*flags)
    assert code == 0, err
    assert "cracker" not in out + err
    for file in own_home.rglob("*"):
        if file.is_file():
            assert b"cracker" not in file.read_bytes(), file


# jobs, show, watch, cancel, resume, report, delete, prune


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


def test_jobs_shows_the_steps_of_a_job_that_is_over(cli: Cli, ran: str) -> None:
    for _ in range(2):  # the second time from what the ledger kept
        assert "1/1" in cli("jobs")[1]
        assert as_json(cli, "jobs")["jobs"][0]["total_steps"] == 1


def test_watch_json_is_one_event_a_line_and_can_begin_anywhere(cli: Cli, ran: str) -> None:
    lines = [json.loads(line) for line in cli("watch", ran, "--json")[1].splitlines()]
    assert [one["seq"] for one in lines] == [1, 2, 3]
    assert lines[1]["data"]["train_loss"] == 0.5
    assert len(cli("watch", ran, "--json", "--after", "2")[1].splitlines()) == 1


def test_what_a_backend_cannot_do_is_said(cli: Cli, ran: str) -> None:
    code, _, err = cli("pause", ran)
    assert code == 2
    assert "cannot be paused" in err


def test_watching_an_interrupted_job_exits_3_and_says_how_to_go_on(cli: Cli, tickets: Path) -> None:
    ref = str(tuneport.train("parrot:grey", tickets, settings={"stop_at": "interrupted"}).ref)
    assert cli("watch", ref)[0] == 3
    assert cli("resume", ref)[0] == 0
    assert cli("watch", ref)[0] == 0


def test_an_unknown_ref_says_where_to_look(cli: Cli) -> None:
    assert cli("show", "parrot:nobody")[0] == 2
    code, _, err = cli("show", "nobody")
    assert code == 2
    assert "backend:name" in err
    code, _, err = cli("show", "nosuch:thing")
    assert code == 2
    assert "there are: parrot" in err or "parrot" in err


def test_an_error_is_json_too_when_json_is_asked_for(cli: Cli) -> None:
    code, out, _ = cli("show", "nobody", "--json")
    assert code == 2
    assert json.loads(out)["error"]["type"] == "RefError"


def test_delete_says_what_goes_and_asks(cli: Cli, ran: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert f"removed the report {report}" in out
    assert not report.exists()
    assert cli("show", ran)[0] == 2
    assert as_json(cli, "jobs")["jobs"] == []


def test_prune_frees_what_nothing_needs_and_keeps_models(cli: Cli, ran: str, own_home: Path) -> None:
    leftover = own_home / "parrot" / ran.partition(":")[2] / "leftover"
    leftover.write_bytes(b"x" * 1000)
    code, out, _ = cli("prune", "--yes")
    assert code == 0
    assert f"checkpoints of {ran}" in out
    assert not leftover.exists()
    assert cli("ask", ran, "card?")[0] == 0


# ask, chat, compare, export, models


def test_ask_answers_with_the_tuned_model(cli: Cli, ran: str) -> None:
    assert cli("ask", ran, "my PIN is blocked")[1].strip() == "pin"
    assert as_json(cli, "ask", ran, "my PIN is blocked")["text"] == "pin"
    assert cli("ask", "parrot:grey", "my PIN is blocked")[1].strip() == "Hello!"


def test_chat_ends_at_an_empty_line(cli: Cli, ran: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("where is my card\n\n"))
    code, out, _ = cli("chat", ran)
    assert code == 0
    assert "card_arrival" in out


def test_compare_puts_base_beside_tuned(cli: Cli, ran: str, tickets: Path) -> None:
    found = as_json(cli, "compare", ran, "--data", tickets)
    assert found["rows"] == 12
    assert found["tuned"]["right"] > found["base"]["right"] == 0
    assert found["trained_on"] == 12
    code, out, _ = cli("compare", ran, "--data", tickets, "--rows", "5", "--no-base")
    assert code == 0
    assert "5" in out


def test_export_of_what_cannot_be_exported_is_an_error(cli: Cli, ran: str, tmp_path: Path) -> None:
    code, _, err = cli("export", ran, "-o", tmp_path / "out")
    assert code == 2
    assert "cannot be exported: its backend does not hand out its weights" in err


def test_models_lists_tuned_and_base_models(cli: Cli, ran: str) -> None:
    found = {one["ref"]: one["kind"] for one in as_json(cli, "models")["models"]}
    assert found[ran] == "tuned"
    assert found["parrot:grey"] == "base"
    assert ran in cli("models")[1]


# plugins, doctor, schema


def test_plugins_and_doctor_say_what_is_there(cli: Cli) -> None:
    assert {one["name"] for one in as_json(cli, "plugins")["plugins"]} >= {"parrot", "torch"}
    assert "parrot" in cli("plugins")[1]
    assert any(one["what"] == "home" for one in as_json(cli, "doctor")["findings"])
    assert "plugin parrot" in cli("doctor")[1]


def test_schema_has_the_sections_of_installed_backends(cli: Cli) -> None:
    schema = json.loads(cli("schema")[1])
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "parrot" in json.dumps(schema)
    assert "Does nothing; parrots learn at once." in json.dumps(schema)


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version")[1].startswith("tuneport 0.")
    assert "check" in cli("--help")[1]
    assert cli() == cli("--help")
    assert cli("nosuchcommand")[0] == 2


def test_the_help_says_what_each_command_does_in_whole_sentences(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = {line.split()[0]: line for line in cli("--help")[1].partition("Commands:")[2].splitlines() if line.strip()}
    assert not [said[name] for name in commands() if said[name].endswith("...")]


# what goes wrong around a command


def test_a_wrong_flag_shows_the_usage_and_is_json_when_json_is_asked_for(cli: Cli) -> None:
    code, _, err = cli("check", "--frob")
    assert code == 2
    assert "error: No such option: --frob" in err
    assert "See: tuneport check --help" in err
    code, out, _ = cli("check", "--frob", "--json")
    assert code == 2
    assert "--frob" in json.loads(out)["error"]["message"]


@pytest.mark.parametrize(
    "command", ["plan nosuch.json", "check nosuch.csv", "init nosuch.csv", "check .", "plan x.yaml"]
)
def test_a_file_that_cannot_be_read_is_named(cli: Cli, command: str) -> None:
    code, _, err = cli(*command.split())
    assert code == 2
    assert command.split()[1].removeprefix(".") in err
    assert "Traceback" not in err


def test_a_place_that_cannot_be_written_to_is_named(cli: Cli, tickets: Path, ran: str) -> None:
    code, _, err = cli("report", ran, "-o", tickets / "page.html")
    assert code == 1
    assert f"{tickets}: File exists." in err
    code, _, err = cli("init", tickets, "--model", "parrot:grey", "-o", "nowhere/tune.yaml")
    assert code == 2
    assert "There is no folder nowhere." in err
    assert cli("fix", tickets, "-o", "nowhere/clean.jsonl")[0] == 2


@pytest.mark.parametrize("command", ["preview", "init"])
def test_data_without_a_usable_row_is_refused(cli: Cli, tmp_path: Path, command: str) -> None:
    (tmp_path / "odd.jsonl").write_text('{"foo": 1}\n')
    code, _, err = cli(command, "odd.jsonl")
    assert code == 1
    assert "tuneport check odd.jsonl" in err
    assert not (tmp_path / "tune.yaml").exists()


def test_init_and_check_refuse_what_they_do_not_know(cli: Cli, tickets: Path) -> None:
    assert cli("init", "-")[0] == 2
    code, _, err = cli("check", tickets, "--method", "osmosis")
    assert code == 2
    assert "Methods are sft" in err


def test_what_is_in_brackets_is_shown_as_it_is(cli: Cli, tickets: Path) -> None:
    odd = "parrot:[red]-[/nothing]"
    code, _, err = cli("show", odd)
    assert code == 2
    assert odd.partition(":")[2] in err


def test_every_command_that_ends_prints_one_json_object(cli: Cli, ran: str, tickets: Path, tmp_path: Path) -> None:
    assert set(as_json(cli, "init", tickets, "--model", "parrot:grey")) == {"version", "path", "check"}
    assert as_json(cli, "fix", tickets, "-o", "clean.jsonl")["written"] == 12
    assert len(as_json(cli, "preview", tickets, "--rows", "2")["rows"]) == 2
    assert (
        as_json(cli, "plan", "tune.yaml")["split"]["train"] + as_json(cli, "plan", "tune.yaml")["split"]["holdout"]
        == 12
    )
    assert as_json(cli, "cancel", ran)["state"]["status"] == "succeeded"
    assert as_json(cli, "resume", ran)["ref"] == ran
    assert as_json(cli, "report", ran, "-o", tmp_path / "page.html") == {
        "version": 1,
        "path": str(tmp_path / "page.html"),
    }
    assert as_json(cli, "prune", "--yes")["removed"] == []
    assert f"the ledger's entry of {ran}" in as_json(cli, "delete", ran, "--yes")["removed"]


# the process itself: signals and streams


@pytest.fixture
def process(tmp_path: Path, tickets: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.Popen[str]]:
    """Starts the command line as a process of its own in the folder of the tickets, with its streams as pipes."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))

    def started(*arguments: str | Path, **streams: Any) -> subprocess.Popen[str]:
        piped = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
        command = [sys.executable, "-m", "tuneport.cli", *map(str, arguments)]
        return subprocess.Popen(command, cwd=tmp_path, text=True, **piped)

    return started


def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(process: Any, tickets: Path) -> None:
    run = process("run", tickets, "--model", "parrot:grey", "--set", "backends.parrot.stop_at=running")
    for line in run.stderr:
        if "done" in line:  # the last event of a job that then runs for ever
            break
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=30)
    assert run.returncode == 130
    ref = re.search(r"(\S+) goes on. Come back with: tuneport watch", err)[1]
    assert "The same command finishes what is left." in err
    watch = process("watch", ref, "--json")
    assert [json.loads(watch.stdout.readline())["seq"] for _ in range(3)] == [1, 2, 3]
    watch.send_signal(signal.SIGINT)
    _, err = watch.communicate(timeout=30)
    assert watch.returncode == 130
    assert f"tuneport watch {ref}" in err


def test_a_reader_that_goes_away_ends_the_command_quietly(process: Any, tickets: Path) -> None:
    tickets.write_text(tickets.read_text() + "".join(f"{'words ' * 50} {n},refund\n" for n in range(2000)))
    preview = process("preview", tickets, "--rows", "2000")
    assert preview.stdout.readline() == "row 1\n"
    preview.stdout.close()
    assert preview.stderr.read() == ""
    assert preview.wait(30) == 141


def test_check_reads_standard_input(process: Any, tickets: Path) -> None:
    with tickets.open() as rows:
        out, err = process("check", "-", "--json", stdin=rows).communicate(timeout=30)
    assert json.loads(out)["read"] == 12, err


def test_a_run_without_a_holdout_shows_samples_in_its_report(cli: Cli, tickets: Path) -> None:
    found = as_json(cli, "run", tickets, "--model", "parrot:grey", "--holdout", "0")
    assert found["comparison"] is None
    page = Path(found["report"]).read_text()
    assert "Samples" in page
    assert "My card never arrived" in page


def test_rows_of_a_validation_file_are_checked_and_leaks_into_training_are_told(cli: Cli, tickets: Path) -> None:
    flags = ("run", tickets, "--model", "parrot:grey", "--set", f"data.holdout={tickets}")
    code, out, err = cli(*flags)
    assert code == 0, err
    assert "leaked-row, 12 times" in err
    assert "warning: 12 of these 12 rows were trained on" in out
    bad = tickets.with_name("bad.jsonl")
    bad.write_text('{"text": "no label"}\n{"text": "my card is lost", "label": "card_arrival"}\n')
    code, _, err = cli("run", tickets, "--model", "parrot:grey", "--set", f"data.validation={bad}")
    assert code == 1
    assert "bad.jsonl" in err


def test_a_plan_over_the_budget_says_so(cli: Cli, tickets: Path) -> None:
    flags = ("plan", tickets, "--model", "parrot:grey", "--set", "budget.usd=5", "--set", "backends.parrot.usd=7")
    code, out, err = cli(*flags)
    assert code == 1
    assert "7.00 USD" in out
    assert "budget.usd allows 5" in err


def test_fix_says_of_a_file_that_it_cannot_read_what_check_says(cli: Cli, tmp_path: Path) -> None:
    odd = tmp_path / "odd.csv"
    odd.write_text("body,queue\nhello,greeting\n")
    code, _, err = cli("fix", odd, "-o", tmp_path / "new.jsonl")
    assert code == 1
    assert "--column" in err
