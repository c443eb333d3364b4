"""Damaged files in home: every command reports them or continues, and none ends with a traceback."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import Cli, as_json
from tuneport.ledger import Ledger
from tuneport.refs import Ref

pytestmark = pytest.mark.usefixtures("parrot")
DEEP = b"[" * 100_000 + b"]" * 100_000


def noise(path: Path, start: int = 0) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:start] + random.Random(5).randbytes(max(5000, len(raw)) - start))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "random": noise,
    "random behind the header": lambda path: noise(path, 100),
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "deep": lambda path: path.write_bytes(DEEP),
    "list": lambda path: path.write_bytes(b"[1]"),
    "null": lambda path: path.write_bytes(b"null"),
    "a folder": folder,
}


@pytest.fixture
def home_with_all(cli: Cli, tickets: Path, own_home: Path) -> str:
    """A home in which everything was used: a job of the parrot, one of torch, a profile, a token."""
    ref = str(as_json(cli, "run", tickets, "--model", "parrot:gray", "--holdout", "0")["ref"])
    with Ledger.open() as ledger:
        record = ledger.record_intent(
            backend="torch", base=Ref("torch", "tiny"), identity="i", fingerprint="f", stem="tickets", run=None
        )
        ledger.confirm(record.intent)
    job = own_home / "jobs" / "torch" / record.ref.name
    job.mkdir(parents=True)
    for name in ("request.json", "status.json", "owner.json", "beat.json"):
        (job / name).write_text("{}")
    (job / "events.jsonl").write_text("{}\n")
    assert cli("profiles", "add", "lab", "http://127.0.0.1:9/v1")[0] == 0
    assert cli("access", "add", "laptop")[0] == 0
    (own_home / "torch_ref").write_text(str(record.ref))
    return ref


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_file_in_home_ends_no_command_with_a_traceback(
    what: str, cli: Cli, tickets: Path, own_home: Path, home_with_all: str, tmp_path: Path
) -> None:
    torch_ref = (own_home / "torch_ref").read_text()
    (job,) = (own_home / "jobs" / "torch").glob("tickets-*")
    run = ["run", str(tickets), "--model", "parrot:gray", "--holdout", "0"]
    by_file: dict[str, list[list[str]]] = {
        "ledger.sqlite3": [["jobs"], ["show", home_with_all], ["doctor"], ["models"], ["prune", "-y"], run],
        "server/server.sqlite3": [["access", "list"], ["access", "add", "x"], ["access", "remove", "laptop"]],
        "profiles.json": [["profiles", "list"], ["ask", "lab:x", "hi"], ["doctor"], ["jobs"]],
        f"rows/{home_with_all.partition(':')[2]}.turns": [["show", home_with_all], ["compare", home_with_all,
            "--data", str(tickets), "--no-base"]],
        **{
            f"jobs/torch/{job.name}/{name}": [["jobs"], *([verb, torch_ref] for verb in ("show", "cancel", "report"))]
            for name in ("request.json", "status.json", "owner.json", "beat.json", "events.jsonl")
        },
    }  # fmt: skip
    good = tmp_path / "good"
    shutil.copytree(own_home, good)
    for file, commands in by_file.items():
        for command in commands:
            shutil.rmtree(own_home)
            shutil.copytree(good, own_home)
            for suffix in ("-wal", "-shm"):
                (own_home / f"{file}{suffix}").unlink(missing_ok=True)
            assert (own_home / file).exists(), file
            DAMAGE[what](own_home / file)
            code, _, err = cli(*command)
            assert code in (0, 1, 2, 3), (file, command)
            assert "Traceback" not in err
            if file.endswith(".sqlite3") and what in ("random", "deep"):
                assert code == 1 or command == ["doctor"]
                assert "Move it" in err or command == ["doctor"], err


def loop(path: Path) -> None:
    path.symlink_to(path.name)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a loop of links": loop,
    "a folder": Path.mkdir,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", SPECIAL)
def test_a_special_file_in_home_neither_blocks_nor_is_read_forever(
    what: str, cli: Cli, tickets: Path, own_home: Path, home_with_all: str
) -> None:
    torch_ref = (own_home / "torch_ref").read_text()
    (job,) = (own_home / "jobs" / "torch").glob("tickets-*")
    lines = own_home / "rows" / f"{home_with_all.partition(':')[2]}.turns"
    plan = ["plan", str(tickets), "--model", "parrot:gray"]
    places: list[tuple[Path, list[list[str]]]] = [
        *((job / name, [["show", torch_ref], ["jobs"]]) for name in ("request.json", "status.json", "beat.json")),
        *((job / name, [["cancel", torch_ref], ["watch", torch_ref]]) for name in ("owner.json", "lock", "log.txt")),
        (job / "events.jsonl", [["show", torch_ref], ["report", torch_ref], ["watch", torch_ref]]),
        (own_home / "profiles.json", [["profiles", "list"], ["ask", "lab:x", "hi"], ["jobs"], ["doctor"]]),
        (own_home / "profiles.lock", [["profiles", "add", "two", "http://127.0.0.1:9/v1"]]),
        (own_home / "chat_history", [["jobs"]]),
        (lines, [["show", home_with_all], ["compare", home_with_all, "--data", str(tickets), "--no-base"]]),
        (own_home / "paces", [plan]),
        (own_home / "cache", [plan, ["prune", "-y"]]),
        (own_home / "server" / "server.sqlite3", [["access", "list"], ["access", "add", "x"]]),
        (own_home / "server" / "lock", [["doctor"]]),
        (own_home / "ledger.sqlite3", [["jobs"], ["show", home_with_all], ["doctor"], plan]),
    ]  # fmt: skip
    for path, commands in places:
        for part in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            part.rename(f"{part}.good") if part.exists() else None
        path.parent.mkdir(exist_ok=True, parents=True)
        SPECIAL[what](path)
        for command in commands:
            code, _, err = cli(*command)
            assert code in (0, 1, 2, 3), (path, command)
            assert "Traceback" not in err, (path, command)
            assert code == 0 or "error:" in err or command == ["doctor"], (path, command, err)
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for part in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            Path(f"{part}.good").rename(part) if Path(f"{part}.good").exists() else None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", SPECIAL)
def test_a_special_file_as_an_argument_is_refused(
    what: str, cli: Cli, tickets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneport.dataset.read.files._PIPE_SECONDS", 0.2)
    monkeypatch.chdir(tmp_path)
    for name in ("c.yaml", "c.toml", "c.json", "rows.jsonl", "rows.csv", "rows.parquet", "rows.jsonl.gz", "grader.py"):
        SPECIAL[what](Path(name))
    plan = ("plan", str(tickets), "--model", "parrot:gray")
    commands = [
        *(("plan", f"c.{kind}") for kind in ("yaml", "toml", "json")),
        *(("check", f"rows.{kind}") for kind in ("jsonl", "csv", "parquet", "jsonl.gz")),
        (*plan, "--validation", "rows.jsonl"),
        (*plan, "--set", "compare.grader=grader:grade"),
        ("serve", "--config", "c.yaml", "--port", "0"),
        ("ask", "parrot:gray", "hi", "--schema", "c.json"),
    ]
    for command in commands:
        code, _, err = cli(*command)
        assert code in (1, 2), (command, code)
        assert "error:" in err and "Traceback" not in err, (command, err)


@pytest.mark.parametrize("value", ["garbage", DEEP.decode(), "[1]", "null", b"\xff\xfe"])
def test_an_invalid_row_is_reported_as_damage(value: str | bytes, cli: Cli, own_home: Path, ran: str) -> None:
    good = own_home / "good.sqlite3"
    shutil.copy(own_home / "ledger.sqlite3", good)
    for table, column in (
        ("jobs", "config"),
        ("jobs", "remote"),
        ("jobs", "base"),
        ("jobs", "created"),
        ("runs", "results"),
    ):
        shutil.copy(good, own_home / "ledger.sqlite3")
        connection = sqlite3.connect(own_home / "ledger.sqlite3")
        new = value if isinstance(value, str) else value.hex()
        what = "?" if isinstance(value, str) else f"CAST(x'{new}' AS TEXT)"
        connection.execute(f"UPDATE {table} SET {column} = {what}", (new,) if isinstance(value, str) else ())
        connection.commit()
        connection.close()
        code, _, err = cli("show", ran)
        assert code == 1, (table, column)
        assert "ledger.sqlite3 cannot be used" in err
        assert "Move it" in err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("deep.json", '{"model": "parrot:gray", "data": ' + DEEP.decode() + "}"),
        ("deep.toml", "model = " + "[" * 100_000),
        ("deep.yaml", "model: " + "[" * 100_000),
        ("dashes.yaml", "model:\n" + "- " * 3000 + "x"),
    ],
)
def test_a_deeply_nested_config_is_refused(name: str, text: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    code, _, err = cli("plan", name)
    assert code == 2
    assert "error:" in err


def test_a_deeply_nested_value_is_refused(cli: Cli, tickets: Path) -> None:
    code, _, err = cli("plan", tickets, "--model", "parrot:gray", "--set", "train.suffix=" + "[" * 100_000)
    assert code == 2
    assert "nested too deeply" in err
