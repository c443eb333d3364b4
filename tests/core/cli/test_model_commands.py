"""ask, chat, compare, export and models."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import Cli, as_json

pytestmark = pytest.mark.usefixtures("parrot")


def test_ask_answers_with_the_tuned_model(cli: Cli, ran: str) -> None:
    assert cli("ask", ran, "my PIN is blocked")[1].strip() == "pin"
    assert as_json(cli, "ask", ran, "my PIN is blocked")["text"] == "pin"
    assert cli("ask", "parrot:gray", "my PIN is blocked")[1].strip() == "Hello!"


def test_chat_ends_at_an_empty_line(cli: Cli, ran: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("where is my card\n\n"))
    code, out, _ = cli("chat", ran)
    assert code == 0
    assert "card_arrival" in out


def test_compare_prints_base_and_tuned(cli: Cli, ran: str, tickets: Path) -> None:
    found = as_json(cli, "compare", ran, "--data", tickets)
    assert found["rows"] == 12
    assert found["tuned"]["right"] > found["base"]["right"] == 0
    assert found["trained_on"] == 12
    code, out, _ = cli("compare", ran, "--data", tickets, "--rows", "5", "--no-base")
    assert code == 0
    assert "5" in out


def test_an_unsupported_export_is_an_error(cli: Cli, ran: str, tmp_path: Path) -> None:
    code, _, err = cli("export", ran, "-o", tmp_path / "out")
    assert code == 2
    assert "cannot be exported: its backend does not give access to the weights" in err


def test_models_lists_tuned_and_base_models(cli: Cli, ran: str) -> None:
    found = {one["ref"]: one["kind"] for one in as_json(cli, "models")["models"]}
    assert found[ran] == "tuned"
    assert found["parrot:gray"] == "base"
    assert ran in cli("models")[1]


def test_an_unusable_schema_file_is_described_precisely(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "large.json").write_text('{"title": "' + "x" * 131_072 + '"}')
    (tmp_path / "text.json").write_text("label: card")
    (tmp_path / "list.json").write_text("[]")
    for name, words in {
        "absent.json": "cannot be read: No such file or directory.",
        "large.json": "is larger than 131,072 bytes",
        "text.json": "is not JSON",
        "list.json": "does not hold a JSON object",
    }.items():
        code, _, err = cli("ask", "parrot:gray", "hello", "--schema", tmp_path / name)
        assert code == 2
        assert words in " ".join(err.split())
