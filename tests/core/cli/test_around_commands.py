"""What all commands have in common (help, errors, JSON, streams), and the commands about tuneport itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import Cli, as_json
from tuneport.cli.app import commands

pytestmark = pytest.mark.usefixtures("parrot")


def test_errors_are_json_with_json(cli: Cli) -> None:
    code, out, _ = cli("show", "nobody", "--json")
    assert code == 2
    assert json.loads(out)["error"]["type"] == "RefError"


def test_plugins_and_doctor_list_what_is_installed(cli: Cli) -> None:
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


def test_the_help_describes_each_command_in_a_complete_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = {line.split()[0]: line for line in cli("--help")[1].partition("Commands:")[2].splitlines() if line.strip()}
    names = {name.split()[0] for name in commands()}
    assert not [lines[name] for name in names if lines[name].endswith("...")]


def test_a_wrong_flag_shows_the_usage_and_is_json_with_json(cli: Cli) -> None:
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
def test_an_unreadable_file_is_named(cli: Cli, command: str) -> None:
    code, _, err = cli(*command.split())
    assert code == 2
    assert command.split()[1].removeprefix(".") in err
    assert "Traceback" not in err


def test_an_unwritable_path_is_named(cli: Cli, tickets: Path, ran: str) -> None:
    code, _, err = cli("report", ran, "-o", tickets / "page.html")
    assert code == 1
    assert f"{tickets}: File exists." in err
    code, _, err = cli("init", tickets, "--model", "parrot:gray", "-o", "nowhere/tune.yaml")
    assert code == 2
    assert "There is no folder nowhere." in err
    assert cli("fix", tickets, "-o", "nowhere/clean.jsonl")[0] == 2


def test_text_in_brackets_is_shown_literally(cli: Cli, tickets: Path) -> None:
    odd = "parrot:[red]-[/nothing]"
    code, _, err = cli("show", odd)
    assert code == 2
    assert odd.partition(":")[2] in err


def test_every_command_prints_one_json_object(cli: Cli, ran: str, tickets: Path, tmp_path: Path) -> None:
    assert set(as_json(cli, "init", tickets, "--model", "parrot:gray")) == {"version", "path", "check"}
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


def test_a_closed_pipe_ends_the_command_quietly(process: Any, tickets: Path) -> None:
    tickets.write_text(tickets.read_text() + "".join(f"{'words ' * 50} {n},refund\n" for n in range(2000)))
    preview = process("preview", tickets, "--rows", "2000")
    assert preview.stdout.readline() == "row 1\n"
    preview.stdout.close()
    assert preview.stderr.read() == ""
    assert preview.wait(30) == 141
