"""check, fix, preview and init."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tuneport
import tuneport.plugin
from command_line import Cli, as_json
from tuneport.cli.show_data import show_check
from tuneport.config import load_config
from tuneport.terminal import outlet

pytestmark = pytest.mark.usefixtures("parrot")


def test_check_prints_counts_and_exits_0_without_errors(cli: Cli, tickets: Path) -> None:
    code, out, _ = cli("check", tickets)
    assert code == 0
    assert "read 12 = used 12 + rejected 0" in out


def test_check_with_a_base_shows_all_its_rules(
    tickets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    outlet.console.cache_clear()
    rules = tuneport.plugin.DataRules(notes=("It ends in May.", "Nobody can count its tokens."))
    show_check(tuneport.Dataset.load(tickets).check(rules))
    output = capsys.readouterr().out
    assert "It ends in May." in output
    assert "Nobody can count its tokens." in output


def test_check_json_has_the_promised_keys(cli: Cli, tickets: Path) -> None:
    found = as_json(cli, "check", tickets)
    assert {"file", "format", "read", "used", "rejected", "fingerprint", "diagnostics", "stats"} <= set(found)
    for one in found["diagnostics"]:
        assert set(one) == {"file", "line", "pointer", "code", "severity", "message", "remedy"}


def test_check_exits_1_with_line_pointer_code_and_remedy_of_each_error(cli: Cli, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    good = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
    bad.write_text(f'{good}\n{{"messages": [{{"role": "usr", "content": "a"}}]}}\n')
    code, out, _ = cli("check", bad)
    assert code == 1
    assert "read 2 = used 1 + rejected 1" in out
    assert "unknown-role" in out
    assert "line 2" in out
    assert "/messages/0/role" in out


def test_fix_writes_a_new_file_and_prints_the_changes(cli: Cli, tmp_path: Path) -> None:
    messy = tmp_path / "messy.csv"
    messy.write_text("text,label\n  hello there  ,greeting\nbye now,farewell\nbye now,farewell\n")
    code, out, _ = cli("fix", messy, "-o", tmp_path / "clean.jsonl")
    assert code == 0
    assert "read 3 = written 2 + dropped 1" in out
    assert "hello there" in out
    assert cli("check", tmp_path / "clean.jsonl")[0] == 0


def test_fix_applies_the_named_codes_and_writes_every_change(cli: Cli, tmp_path: Path) -> None:
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
    code, out, _ = cli("init", tickets, "--model", "parrot:gray")
    assert code == 0
    assert "tuneport run tune.yaml" in out
    text = (tmp_path / "tune.yaml").read_text()
    assert "With parrot, auto is 1." in " ".join(text.replace("#", "").split())
    assert cli("init", tickets)[0] == 2  # it is there already
    code, out, err = cli("run", "tune.yaml")
    assert code == 0, err
    assert "report" in out


@pytest.mark.parametrize("name", ["tune.v2.yaml", "my tickets (1).yaml", "été.yaml", f"{'long-' * 12}.yaml", "_.yaml"])
def test_init_accepts_any_name_for_the_config(cli: Cli, tickets: Path, name: str) -> None:
    code, _, err = cli("init", tickets, "--model", "parrot:gray", "-o", name)
    assert code == 0, err
    assert cli("plan", name)[0] == 0


def test_init_writes_how_unusual_columns_are_read(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text("body,queue\nwhere is it,post\npay me,money\nno pin,card\nlost it,card\n")
    flags = ("--column", "text=body", "--column", "label=queue", "--system", "One word.")
    assert cli("init", "odd.csv", "--model", "parrot:gray", *flags)[0] == 0
    found = as_json(cli, "plan", "tune.yaml")["split"]
    assert found["train"] + found["holdout"] == 4


def test_init_chooses_dpo_for_preference_pairs(cli: Cli, tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": f"q{n}", "chosen": f"yes {n}", "rejected": f"no {n}"}) for n in range(30)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    assert cli("init", "pairs.jsonl", "--model", "parrot:gray")[0] == 0
    config = load_config(tmp_path / "tune.yaml")
    assert (config.train.method, config.train.epochs) == ("dpo", "auto")
    assert (config.data.validation, config.compare.grader) == (0.1, "token_f1")


@pytest.mark.parametrize("command", ["preview", "init"])
def test_data_without_a_usable_row_is_refused(cli: Cli, tmp_path: Path, command: str) -> None:
    (tmp_path / "odd.jsonl").write_text('{"foo": 1}\n')
    code, _, err = cli(command, "odd.jsonl")
    assert code == 1
    assert "tuneport check odd.jsonl" in err
    assert not (tmp_path / "tune.yaml").exists()


def test_init_and_check_refuse_unknown_values(cli: Cli, tickets: Path) -> None:
    assert cli("init", "-")[0] == 2
    code, _, err = cli("check", tickets, "--method", "osmosis")
    assert code == 2
    assert "methods are sft" in err


def test_fix_reports_an_unreadable_file_as_check_does(cli: Cli, tmp_path: Path) -> None:
    odd = tmp_path / "odd.csv"
    odd.write_text("body,queue\nhello,greeting\n")
    code, _, err = cli("fix", odd, "-o", tmp_path / "new.jsonl")
    assert code == 1
    assert "--column" in err


def test_check_reads_standard_input(process: Any, tickets: Path) -> None:
    with tickets.open() as rows:
        out, err = process("check", "-", "--json", stdin=rows).communicate(timeout=30)
    assert json.loads(out)["read"] == 12, err


def test_another_encoding_is_suggested_and_read(cli: Cli, tmp_path: Path) -> None:
    rows = "".join(f"Größe {number} falsch,Umtausch {number % 2}\n" for number in range(80))
    old = tmp_path / "old.csv"
    old.write_bytes(f"text,label\n{rows}".encode("latin-1"))
    code, out, _ = cli("check", old)
    assert code == 1
    assert "--encoding latin-1" in out
    assert out.count("other-encoding") == 1
    assert as_json(cli, "check", old, "--encoding", "latin-1")["used"] == 80
    fixed = as_json(cli, "fix", old, "-o", tmp_path / "new.jsonl", "--encoding", "latin-1")
    assert fixed["written"] == 80
    assert "Größe 7 falsch" in (tmp_path / "new.jsonl").read_text(encoding="utf-8")
    config = tmp_path / "tune.yaml"
    as_json(cli, "init", old, "-o", config, "--encoding", "latin-1", "--model", "parrot:gray")
    assert load_config(config).data.encoding == "latin-1"
    code, out, err = cli("plan", config)
    assert code == 0, out + err


def test_the_sheet_option_is_kept_in_the_config(cli: Cli, tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["notes"])
    sheet = book.create_sheet("Tickets")
    sheet.append(["text", "label"])
    for number in range(60):
        sheet.append([f"ticket {number}", f"queue {number % 3}"])
    book.save(tmp_path / "book.xlsx")
    assert as_json(cli, "check", tmp_path / "book.xlsx", "--sheet", "Tickets")["used"] == 60
    config = tmp_path / "tune.yaml"
    as_json(cli, "init", tmp_path / "book.xlsx", "-o", config, "--sheet", "Tickets", "--model", "parrot:gray")
    assert load_config(config).data.sheet == "Tickets"
    code, out, err = cli("plan", config)
    assert code == 0, out + err


def test_fix_stops_if_errors_would_drop_most_rows(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\na,b,c\na,b,d\nlate,delay\n")
    code, _, err = cli("fix", tmp_path / "rows.csv", "-o", tmp_path / "new.jsonl")
    assert code != 0
    assert "2 of 3 rows would be dropped" in err
    assert "--drop-most" in err
    code, out, _ = cli("fix", tmp_path / "rows.csv", "-o", tmp_path / "new.jsonl", "--drop-most")
    assert code == 0
    assert "written 1 + dropped 2" in out
