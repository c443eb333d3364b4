"""plan and run: from a file or flags to a report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from command_line import Cli, as_json
from tuneport.ledger import Ledger

pytestmark = pytest.mark.usefixtures("parrot")


def test_plan_starts_nothing(cli: Cli, tickets: Path) -> None:
    code, out, _ = cli("plan", tickets, "--model", "parrot:gray")
    assert code == 0
    assert "tokens" in out
    assert "counted" in out
    assert as_json(cli, "jobs")["jobs"] == []


def test_run_goes_through_all_stages_and_leaves_a_report(cli: Cli, tickets: Path) -> None:
    code, out, err = cli("run", tickets, "--model", "parrot:gray", "--holdout", "0.3")
    assert code == 0, err
    assert f"checked  {tickets.relative_to(Path.cwd())}: read" in err
    for word in ("checked", "split", "planned", "job"):
        assert word in err
    assert re.search(r"asking base (\d+)/\1\n", err)
    report = Path(re.search(r"report\s+(\S+)", out)[1])
    assert report.read_text().lower().startswith("<!doctype html>")
    assert "tuneport ask parrot:tickets-" in out


def test_unknown_quantities_of_a_plan_are_named(cli: Cli, tickets: Path) -> None:
    flags = ("run", tickets, "--model", "parrot:gray", "--no-wait")
    assert re.search(r"planned  \d+ tokens, 1 step, 0.1 s, 1.0 MB of memory, 0.00 USD\n", cli(*flags)[2])
    _, _, err = cli(*flags, "--set", "backends.parrot.usd=null")
    assert "of memory; unknown: money\n" in err


def test_the_same_run_finds_the_finished_job_and_again_starts_a_new_one(cli: Cli, tickets: Path, ran: str) -> None:
    again = as_json(cli, "run", tickets, "--model", "parrot:gray", "--holdout", "0")
    assert again["ref"] == ran
    second = as_json(cli, "run", tickets, "--model", "parrot:gray", "--holdout", "0", "--again")
    assert second["ref"] != ran


def test_the_same_run_resumes_an_interrupted_job(cli: Cli, tickets: Path) -> None:
    flags = ("run", tickets, "--model", "parrot:gray", "--set", "backends.parrot.stop_at=interrupted")
    code, _, err = cli(*flags)
    assert code == 0, err
    assert "continues from its last complete checkpoint" in err


def test_events_from_before_a_resume_are_not_printed_as_new(cli: Cli, tickets: Path, own_home: Path) -> None:
    flags = ("run", tickets, "--model", "parrot:gray", "--set", "backends.parrot.stop_at=paused")
    ref = str(as_json(cli, *flags, "--no-wait")["ref"])
    (own_home / "parrot" / ref.partition(":")[2] / "status").write_text("paused")
    code, _, err = cli(*flags)
    assert code == 0, err
    assert f"job      {ref} is paused\n" in err
    assert "resumed" in err
    assert "learning by heart" not in err
    assert re.search(r"learning by heart \(.* ago\)", cli("watch", ref)[2])


def test_a_run_that_does_not_wait_resumes_too(cli: Cli, tickets: Path) -> None:
    flags = ("run", tickets, "--model", "parrot:gray", "--set", "backends.parrot.stop_at=paused", "--no-wait")
    code, out, err = cli(*flags)
    assert code == 0, err
    assert "continues from its last complete checkpoint" in err
    assert "Ctrl-C" not in err
    assert "has succeeded. The same command without --no-wait finishes the rest." in out
    code, out, err = cli(*flags[:-1])
    assert code == 0, err
    assert "learning by heart" not in err  # that was earlier
    assert "report " in out


def test_a_failed_job_is_reported_and_does_not_block_the_next_one(cli: Cli, tickets: Path) -> None:
    flags = ("run", tickets, "--model", "parrot:gray", "--set", "backends.parrot.stop_at=failed")
    code, _, err = cli(*flags)
    assert code == 1
    assert "failed: it forgot" in err
    first = as_json(cli, "jobs")["jobs"]
    cli(*flags)
    assert len(as_json(cli, "jobs")["jobs"]) == len(first) + 1


def test_a_budget_stops_a_run_before_it_starts(cli: Cli, tickets: Path) -> None:
    flags = ("run", tickets, "--model", "parrot:gray", "--set", "budget.usd=5")
    code, _, err = cli(*flags, "--set", "backends.parrot.usd=7")
    assert code == 1
    assert "7.00 US dollars" in err
    assert "budget.usd allows 5" in err
    code, _, err = cli(*flags, "--set", "backends.parrot.usd=null")
    assert code == 1
    assert "The cost of the run is unknown" in err
    assert "remove budget.usd" in err
    assert "fewer rows" not in err
    assert as_json(cli, "jobs")["jobs"] == []


def test_a_grader_that_cannot_read_the_data_stops_a_run_before_it_starts(cli: Cli, tickets: Path) -> None:
    code, _, err = cli("run", tickets, "--model", "parrot:gray", "--set", "compare.grader=nosuch")
    assert code == 2
    assert "nosuch" in err
    assert as_json(cli, "jobs")["jobs"] == []


def test_data_with_errors_stops_a_run_unless_on_error_is_skip(cli: Cli, tmp_path: Path, tickets: Path) -> None:
    rows = [json.dumps({"text": f"message number {n} about something", "label": "ab"[n % 2]}) for n in range(20)]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join([*rows, '{"text": "no label"}']) + "\n")
    code, _, err = cli("run", data, "--model", "parrot:gray")
    assert code == 1
    assert "1 of 21 rows are rejected" in err
    assert "tuneport fix" in err
    found = as_json(cli, "run", data, "--model", "parrot:gray", "--set", "data.on_error=skip")
    assert found["check"]["read"] == 21
    assert found["check"]["used"] == 20


def test_data_without_a_model_says_what_to_type(cli: Cli, tickets: Path) -> None:
    code, _, err = cli("run", tickets)
    assert code == 2
    assert f"tuneport run {tickets} --model torch:smollm2-135m" in err
    assert f"tuneport plan {tickets} --model torch:smollm2-135m" in cli("plan", tickets)[2]


def test_a_config_error_names_file_line_key_and_a_similar_key(cli: Cli, tickets: Path, tmp_path: Path) -> None:
    (tmp_path / "tune.yaml").write_text(f"model: parrot:gray\ndata: {{train: {tickets}}}\ntrain:\n  epoch: 3\n")
    code, _, err = cli("run", "tune.yaml")
    assert code == 2
    assert "tune.yaml:4" in err
    assert "train.epoch" in err
    assert "epochs" in err


def test_a_flag_overrides_the_config_file(cli: Cli, tickets: Path, tmp_path: Path) -> None:
    (tmp_path / "tune.yaml").write_text(f"model: parrot:gray\ndata: {{train: {tickets}}}\ntrain: {{suffix: mine}}\n")
    assert as_json(cli, "run", "tune.yaml")["ref"].startswith("parrot:mine-")
    assert as_json(cli, "run", "tune.yaml", "--suffix", "yours")["ref"].startswith("parrot:yours-")


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--epochs", "0", "--epochs: should be at least 1 or 'auto'"),
        ("--epochs", "many", "--epochs: should be a whole number or 'auto'"),
        ("--seed", "-1", "--seed: should be at least 0"),
        ("--suffix", "two words", "--suffix: should be at most 40 letters"),
        ("--holdout", "1.5", "--holdout: should be a share of the rows"),
        ("--model", "gray", "--model: 'gray' is not a job. The same name belongs to parrot:gray."),
        ("--set", "train.epochs=0", "--set train.epochs: should be at least 1 or 'auto'"),
    ],
)
def test_the_error_of_a_wrong_value_names_its_option(
    cli: Cli, tickets: Path, tmp_path: Path, flag: str, value: str, message: str
) -> None:
    (tmp_path / "tune.yaml").write_text(f"model: parrot:gray\ndata: {{train: {tickets}}}\n")
    for given in (["tune.yaml"], [tickets, *(["--model", "parrot:gray"] if flag != "--model" else [])]):
        code, _, err = cli("run", *given, flag, value)
        assert code == 2
        assert message in err


def test_a_suffix_that_looks_like_a_number_is_text(cli: Cli, tickets: Path, tmp_path: Path) -> None:
    (tmp_path / "tune.yaml").write_text(f"model: parrot:gray\ndata: {{train: {tickets}}}\n")
    assert as_json(cli, "run", "tune.yaml", "--suffix", "2024")["ref"].startswith("parrot:2024-")


def test_a_secret_is_in_no_file_and_no_output(
    cli: Cli, tickets: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARROT_KEY", "polly-wants-a-cracker")
    flags = ("run", tickets, "--model", "parrot:gray", "--set", "backends.parrot.key=${PARROT_KEY}")
    code, out, err = cli(*flags)
    assert code == 0, err
    assert "cracker" not in out + err
    for file in own_home.rglob("*"):
        if file.is_file():
            assert b"cracker" not in file.read_bytes(), file


def test_a_run_without_a_holdout_shows_samples_in_its_report(cli: Cli, tickets: Path) -> None:
    found = as_json(cli, "run", tickets, "--model", "parrot:gray", "--holdout", "0")
    assert found["comparison"] is None
    page = Path(found["report"]).read_text()
    assert "Samples" in page
    assert "My card never arrived" in page


def test_a_report_shows_folders_only_with_paths(cli: Cli, tickets: Path) -> None:
    found = as_json(cli, "run", tickets, "--model", "parrot:gray", "--holdout", "0")
    page = Path(found["report"]).read_text()
    assert tickets.name in page
    assert str(tickets.parent) not in page
    page = Path(as_json(cli, "report", found["ref"], "--paths")["path"]).read_text()
    assert str(tickets) in page


def test_a_model_is_asked_for_samples_once(cli: Cli, tickets: Path) -> None:
    command = ("run", tickets, "--model", "parrot:gray", "--holdout", "0")
    job = as_json(cli, *command)["ref"]
    with Ledger.open() as ledger:
        [run] = {one.run for one in ledger.jobs()}
        kept = {"prompt": "asked before", "answer": "an earlier answer", "reference": "pin"}
        ledger.advance(run, "trained", {"job": job, "samples": [kept]})
    assert "an earlier answer" in Path(as_json(cli, *command)["report"]).read_text()


def test_rows_of_a_validation_file_are_checked_and_leaks_into_training_are_reported(cli: Cli, tickets: Path) -> None:
    flags = ("run", tickets, "--model", "parrot:gray", "--set", f"data.holdout={tickets}")
    code, out, err = cli(*flags)
    assert code == 0, err
    assert "leaked-row, 12 times" in err
    assert "warning: 12 of these 12 rows were trained on" in out
    other = tickets.with_name("other.csv")
    other.write_text("text,label\nnothing like it,pin\n")
    both = (f"data.holdout={other}", f"data.validation={tickets}")
    _, _, err = cli("run", tickets, "--model", "parrot:gray", *(flag for one in both for flag in ("--set", one)))
    assert "leaked-row, 12 times" in err
    bad = tickets.with_name("bad.jsonl")
    bad.write_text('{"text": "no label"}\n{"text": "my card is lost", "label": "card_arrival"}\n')
    code, _, err = cli("run", tickets, "--model", "parrot:gray", "--set", f"data.validation={bad}")
    assert code == 1
    assert "bad.jsonl" in err


def test_a_plan_over_the_budget_says_so(cli: Cli, tickets: Path) -> None:
    flags = ("plan", tickets, "--model", "parrot:gray", "--set", "budget.usd=5", "--set", "backends.parrot.usd=7")
    code, out, err = cli(*flags)
    assert code == 1
    assert "7.00 USD" in out
    assert "budget.usd allows 5" in err


def test_a_wrong_method_is_reported_before_its_consequences(cli: Cli, tmp_path: Path) -> None:
    pairs = [f'{{"prompt": "q{n}", "chosen": "yes {n}", "rejected": "no {n}"}}' for n in range(30)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(pairs))
    code, _, err = cli("plan", "pairs.jsonl", "--model", "parrot:gray")
    assert code == 1
    first = next(line for line in err.splitlines() if line.startswith("  "))
    assert "shape-not-taken" in first
    assert "on_error" not in err
    code, _, err = cli("plan", "pairs.jsonl", "--model", "parrot:gray", "--method", "dpo")
    assert code == 2
    assert "cannot train by 'dpo'" in err


ANSWERS = {
    "numeric": lambda number: f"{number} + 1 = {number + 1}\n#### {number + 1}",
    "token_f1": lambda number: f"The parcel number {number} left our depot and will be with you in {number} days.",
    "json": lambda number: json.dumps({"total": number}),
    "exact": lambda number: ("card", "refund")[number % 2],
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_grader_fits_the_answers_from_init_to_the_comparison(cli: Cli, tmp_path: Path, name: str) -> None:
    rows = [{"question": f"Number {number}?", "answer": ANSWERS[name](number)} for number in range(40)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    flags = (data, "--model", "parrot:gray", "--holdout", "0.3")
    assert f"graded by {name}" in cli("plan", *flags)[1]
    code, out, err = cli("run", *flags)
    assert code == 0, err
    assert f"graded by {name}" in out
    assert cli("init", data, "--model", "parrot:gray", "-o", "tune.yaml")[0] == 0
    assert f"grader: {name}" in (tmp_path / "tune.yaml").read_text(encoding="utf-8")
    misfit = cli("plan", *flags, "--set", "compare.grader=contains")[1]
    assert ("correct answers may score 0" in misfit) == (name != "exact")
    assert cli("plan", *flags, "--set", f"compare.grader={name}")[1].count("graded by") == 0


def test_a_plan_says_how_rows_are_read(cli: Cli, tmp_path: Path) -> None:
    rows = [{"system": "Be brief.", "prompt": f"Number {n}?", "completion": f"{n}", "docs": 1} for n in range(9)]
    rows = [row | {"documents": "more"} for row in rows]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    out = cli("plan", data, "--model", "parrot:gray")[1]
    assert "because of system" in out
    assert "documents" in out
    assert "because of system" in cli("preview", data, "--rows", "1")[1]


def test_each_problem_of_a_config_is_on_its_own_line_and_a_key_never_adds_one(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "tune.yaml"
    file.write_text('model: parrot:gray\ndata: {train: x, holdot: 0.1}\n"error:\\nfake": 1\n')
    code, _, err = cli("plan", file)
    assert code == 2
    head, first, second = err.splitlines()
    assert head == "error: The config has 2 errors:"
    assert "data.holdot: unknown key; did you mean 'holdout'?" in first
    assert r"error:\nfake" in second
