"""Jobs and models by what users type: `last`, a name, the start of a name, a ref."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import tuneport
import tuneport.plugin
from command_line import Cli
from tuneport.cli.app import invoke
from tuneport.errors import HomeError

pytestmark = pytest.mark.usefixtures("parrot")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    monkeypatch.chdir(tmp_path)

    def typed(*arguments: str | Path) -> tuple[int, str, str]:
        code = invoke([str(one) for one in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return typed


def trained(suffix: str, **more: object) -> str:
    rows = [{"prompt": f"{suffix} {n}", "completion": "yes"} for n in range(12)]
    messages = [
        {"messages": [{"role": "user", "content": one["prompt"]}, {"role": "assistant", "content": "yes"}]}
        for one in rows
    ]
    job = tuneport.train("parrot:gray", messages, suffix=suffix, settings=dict(more) or None)
    return str(job.ref)


def test_a_job_is_found_by_last_by_name_and_by_prefix() -> None:
    first, second = trained("alpha"), trained("beta")
    assert str(tuneport.open_job("last").ref) == second
    for text in (first, first.partition(":")[2], "alpha", "al", "parrot:alp", " alpha "):
        assert str(tuneport.open_job(text).ref) == first, text
        assert str(tuneport.open_model(text).ref) == first, text
        assert str(tuneport.plugin.find_ref(text)) == first


def test_a_config_names_its_model_as_a_command_does(cli: Cli, tickets: Path, tmp_path: Path) -> None:
    def base() -> str:
        return str(tuneport.jobs(1)[0].base)

    first, second = trained("gamma"), trained("delta")
    file = tmp_path / "tune.yaml"
    for text, meant in (("gamma", first), ("parrot:del", second), (first, first)):
        file.write_text(f"model: {text}\ndata: {{train: {tickets}, holdout: 0}}\n")
        tuneport.run(file, wait=False, again=True)
        assert base() == meant, text
    for text in ("last", "parrot:last"):
        newest = str(tuneport.plugin.find_ref("last"))
        file.write_text(f"model: {text}\ndata: {{train: {tickets}, holdout: 0}}\n")
        assert cli("plan", file)[0] == 0
        assert cli("run", file, "--no-wait")[0] == 0
        assert base() == newest, text
    newest = str(tuneport.plugin.find_ref("last"))
    tuneport.run(tuneport.RunConfig(model="last", data={"train": str(tickets)}), wait=False)  # type: ignore[arg-type]
    assert base() == newest
    file.write_text("model: a\ndata: {train: rows.csv}\n")
    with pytest.raises(tuneport.errors.ConfigError, match=r"tune.yaml:1: model: 'a' is not the name of a job"):
        tuneport.run(file)


def test_an_ambiguous_prefix_lists_the_jobs() -> None:
    first, second = trained("beak"), trained("bear")
    for text in ("be", "parrot:bea"):
        with pytest.raises(tuneport.errors.RefError, match="matches 2 names") as caught:
            tuneport.open_job(text)
        assert first in str(caught.value)
        assert second in str(caught.value)


def test_an_exact_name_is_never_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    first = trained("wing")
    second = trained(first.partition(":")[2])  # its name begins with the first one's
    assert str(tuneport.plugin.find_ref(first)) == first
    assert str(tuneport.plugin.find_ref(first.partition(":")[2])) == first
    tuneport.delete(first)
    assert str(tuneport.plugin.find_ref(tuneport.Ref.parse(first))) == first  # a Ref is never read as a beginning
    assert str(tuneport.plugin.find_ref(first)) == second


def test_a_job_never_hides_a_base_model() -> None:
    ref = trained("gray")  # the parrot's only base has that name
    assert str(tuneport.open_model("parrot:gray").ref) == "parrot:gray"
    with pytest.raises(tuneport.errors.RefError, match="matches 2 names") as caught:
        tuneport.open_model("gray")
    assert ref in str(caught.value)
    assert "parrot:gray" in str(caught.value)
    with pytest.raises(tuneport.errors.JobNotFound):
        tuneport.open_job("parrot:gray")


def test_the_error_for_a_bare_base_model_says_how_to_write_it() -> None:
    with pytest.raises(tuneport.errors.RefError, match="Write: parrot:gray"):
        tuneport.open_model("gray")


def test_a_job_never_hides_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ref = trained("words")
    (tmp_path / "words").mkdir()
    assert str(tuneport.plugin.find_ref("words")) == ref  # no model is in it
    config = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 32}
    (tmp_path / "words" / "config.json").write_text(json.dumps(config))
    (tmp_path / "words" / "model.safetensors").write_bytes(bytes(8))
    with pytest.raises(tuneport.errors.RefError, match="matches 2 names") as caught:
        tuneport.open_model("words")
    assert "torch:./words" in str(caught.value)
    assert ref in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("tickts", "tickets"), ("parrot:ticket-xxxx", "tickets"), ("parrot:gary", "parrot:gray"), ("tikets-", "tickets")],
)
def test_similar_names_are_suggested(typed: str, meant: str) -> None:
    ref = trained("tickets")
    with pytest.raises(tuneport.TuneportError, match="Did you mean") as caught:
        tuneport.open_model(typed)
    assert (ref if meant == "tickets" else meant) in str(caught.value)


@pytest.mark.parametrize("text", ["", ":", ":x", "Parrot:x", "x:", "nothing-like-it", "last"])
def test_an_unknown_name_is_a_usage_error(text: str) -> None:
    with pytest.raises(tuneport.errors.RefError) as caught:
        tuneport.open_job(text)
    assert caught.value.remedy


def test_with_a_ledger_that_cannot_be_read_no_name_is_called_unknown(own_home: Path) -> None:
    own_home.mkdir()
    (own_home / "ledger.sqlite3").write_bytes(b"this is not a database" * 100)
    for text in ("last", "tickets"):
        with pytest.raises(HomeError, match="ledger"):
            tuneport.plugin.find_ref(text)
    assert str(tuneport.plugin.find_ref("parrot:gray")) == "parrot:gray"


def test_every_command_takes_short_names(cli: Cli, tickets: Path) -> None:
    code, _, err = cli("run", tickets, "--model", "parrot:gray", "--holdout", "0.25", "--suffix", "queue")
    assert code == 0, err
    ref = str(tuneport.plugin.find_ref("last"))
    for command in (
        ["show", "last"],
        ["watch", "que"],
        ["report", "queue"],
        ["ask", "last", "words"],
        ["export", "last", "-o", "x"],
        ["push", "last", "a/b"],
        ["compare", "queue", "--base", "last"],
        ["check", str(tickets), "--for", "last"],
        ["plan", str(tickets), "--model", "queue"],
        ["cancel", "queue"],
        ["settle", "queue"],
    ):
        code, out, err = cli(*command)
        assert "form backend:name" not in err
        assert "fits" not in err
        assert code == 0 or ref in err, (command, err)
    code, out, err = cli("delete", "last", "-y")
    assert (code, ref in out) == (0, True)
    code, out, err = cli("delete", "last", "-y")
    assert code == 2
    assert "no last job" in err


def test_a_comparison_without_rows_takes_the_holdout_of_the_run(cli: Cli, tickets: Path) -> None:
    code, _, err = cli("run", tickets, "--model", "parrot:gray", "--holdout", "0.3", "--set", "compare.grader=contains")
    assert code == 0, err
    found = tuneport.compare("last")
    assert found.trained_on == 0
    assert found.grader == "contains"
    run = tuneport.jobs()[0]
    assert run.score == found.tuned.mean
    assert found.base is not None
    assert run.base_score == found.base.mean
    code, out, err = cli("compare", "last", "--rows", "1", "--grader", "exact")
    assert code == 0, err
    assert "exact" in out
    code, _, err = cli("compare", "last", "--column", "text=text")
    assert code == 2
    tickets.unlink()
    code, _, err = cli("compare", "last")
    assert code in (1, 2)
    assert tickets.name in err


def test_without_a_holdout_the_error_says_how_to_pass_rows(cli: Cli) -> None:
    trained("alone")
    for ref in ("alone", "parrot:gray"):
        code, _, err = cli("compare", ref)
        assert code == 2, err
        assert "--data FILE" in err


def test_jobs_are_listed_by_status_and_backend_and_with_their_score(cli: Cli, tickets: Path) -> None:
    failed = trained("lost", stop_at="failed")
    code, _, err = cli("run", tickets, "--model", "parrot:gray", "--holdout", "0.25")
    assert code == 0, err
    code, out, _ = cli("jobs", "--status", "failed")
    assert code == 0
    assert failed in out
    assert "tickets" not in out
    code, out, _ = cli("jobs", "--status", "succeeded", "--backend", "parrot", "--limit", "1")
    assert "%" in out
    assert failed not in out
    code, out, err = cli("jobs", "--backend", "torch")
    assert (code, out) == (0, "")
    assert "No job matches" in err
    code, _, err = cli("jobs", "--backend", "parot")
    assert code == 2
    assert "Did you mean parrot?" in err
    code, _, err = cli("jobs", "--status", "suceded")
    assert code == 2
    assert "Did you mean succeeded?" in err
    assert [str(one.ref) for one in tuneport.jobs(1, status=["failed", "cancelled"])] == [failed]


def test_learning_rate_goes_to_the_backend_that_takes_one(cli: Cli, tickets: Path) -> None:
    code, _, err = cli("run", tickets, "--model", "parrot:gray", "--learning-rate", "0.25", "--no-wait")
    assert code == 0, err
    code, _, err = cli("run", tickets, "--model", "parrot:gray", "--learning-rate", "fast")
    assert code == 2
    assert "--learning-rate" in err
    code, _, err = cli("plan", tickets, "--model", "openai:gpt-4.1-mini-2025-04-14", "--learning-rate", "1e-4")
    assert code == 2
    assert "learning_rate_multiplier" in err


def test_typos_get_suggestions(cli: Cli, tickets: Path) -> None:
    trained("oak")
    for command, message in {
        ("show", "parrot:gray"): "parrot:gray is a base model, not a job.",
        ("show", "parrot:oka"): "Did you mean parrot:oak-",
        ("ask", "parrot:gary", "hi"): "Did you mean parrot:gray?",
        ("compare", "oak", "--data", str(tickets), "--grader", "exct"): "Did you mean exact?",
        ("run", str(tickets.with_name("tickts.csv"))): f"Did you mean {tickets}?",
        ("check", str(tickets.with_name("tickts.csv"))): f"Did you mean {tickets}?",
        ("plan", str(tickets.with_name("tune.yml"))): "file not found",
    }.items():
        code, _, err = cli(*command)
        assert code == 2, (command, err)
        assert message in " ".join(err.split()), (command, err)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tuneport show ", ["last", "parrot:oak-"]),
        ("tuneport show o", ["oak-"]),
        ("tuneport show parrot:", ["oak-"]),
        ("tuneport show parrot:oa", ["oak-"]),
        ("tuneport ask parrot:g", ["gray"]),
        ("tuneport run x --model=parrot:g", ["gray"]),
        ("tuneport run x --set train.ep", ["train.epochs=", "train.epochs=auto"]),
        ("tuneport run x --set train.epochs=a", ["auto"]),
        ("tuneport run x --set compare.grader=", ["exact", "numeric"]),
        ("tuneport run x --set data.on_error=st", ["stop"]),
        ("tuneport run x --set compare.base=", ["true", "false"]),
        ("tuneport run x --set model=parrot:g", ["gray"]),
        ("tuneport run x --set backends.parrot.st", ["backends.parrot.stop_at="]),
        ("tuneport compare x --grader con", ["contains"]),
        ("tuneport export x --kind a", ["adapter"]),
        ("tuneport jobs --status que", ["queued"]),
        ("tuneport jobs --backend par", ["parrot"]),
        ("tuneport run x --method d", ["dpo"]),
    ],
)
def test_bash_completes(
    line: str, offered: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained("oak")
    # Bash takes a word apart at each colon and each `=`, and puts the answer behind the last of them.
    words = [part for word in line.split(" ") for part in re.split("([:=])", word) if part or not word]
    monkeypatch.setenv("_TUNEPORT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    assert invoke([]) == 0
    found = capsys.readouterr().out.split()
    for one in offered:
        assert any(word.startswith(one) for word in found), found
