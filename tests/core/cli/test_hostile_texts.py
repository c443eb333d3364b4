"""Every command as a separate process, with text that controls a terminal wherever text comes from outside."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tuneport.printable import one_line

PLUGINS = Path(__file__).parents[1] / "loader"
H = "\x1b]0;pwn\x07\x1b[31m\x9b31m\nforged\u202e:smile:[red]x"
GOOD, BAD, CONFIG, KEYS = f"good{H}.jsonl", f"bad{H}.jsonl", f"c{H}.yaml", f"k{H}.yaml"
REF = "REF"  # the ref of a job that has run
HAS_LINES = {"ask", "chat", "preview", "squawk"}  # they show text, and keep its lines

CASES: dict[str, list[list[str]]] = {
    "check": [[BAD], [f"absent{H}"], [GOOD, "--format", H], [GOOD, "--for", f"cockatoo:{H}"], [H, f"--{H}"]],
    "fix": [[GOOD, "-o", f"fixed{H}.jsonl"], [BAD, "-o", "x.jsonl", "--only", H]],
    "preview": [[GOOD]],
    "init": [[GOOD, "--model", "cockatoo:gray", "-o", f"new{H}.yaml"], [GOOD, "--model", f"{H}:x"]],
    "plan": [[GOOD, "--model", "cockatoo:gray"], [CONFIG], [KEYS], [GOOD, "--model", f"cockatoo:{H}"]],
    "run": [
        [CONFIG, "--again"],
        [BAD, "--model", "cockatoo:gray"],
        [GOOD, "--model", "cockatoo:gray", "--set", H],
        [GOOD, "--model", "cockatoo:gray", "--learning-rate", H],
    ],
    "jobs": [[], ["--status", H], ["--backend", H], ["--status", "succeeded"]],
    "show": [[REF], [f"cockatoo:{H}"], [H]],
    "watch": [[REF]],
    "cancel": [[REF]],
    "pause": [[REF]],
    "resume": [[REF]],
    "settle": [[REF]],
    "report": [[REF, "-o", f"page{H}.html"]],
    "ask": [[REF, "words"], [H, H]],
    "chat": [[REF], [REF, "--no-history"], [H]],
    "compare": [
        [REF],
        [H, "--data", GOOD],
        [REF, "--data", GOOD, "--no-base"],
        [REF, "--data", GOOD, "--grader", f"{H}:x"],
        [REF, "--data", GOOD, "--record", H],
    ],
    "export": [[REF, "-o", H, "--kind", H]],
    "push": [[REF, H]],
    "models": [[]],
    "hosting": [[], ["stop", f"cockatoo:{H}"], [H]],
    "delete": [[f"cockatoo:{H}", "-y"]],
    "plugins": [[]],
    "doctor": [[]],
    "schema": [[]],
    "prune": [["-y"]],
    "serve": [["--models", f"{H}=cockatoo:{H}"], ["--config", KEYS], ["--alias", f"{H}=cockatoo:{H}"]],
    "move": [[H], ["openai", "--job", H, "-o", H], ["openai", "--csv", "--job", H]],
    "profiles add": [
        [H, "https://x.example"],
        ["lab", f"https://x.example/{H}"],
        ["lab", "https://x.example", "--limit", H],
        ["lab", "https://x.example", "--limit", f"retries={H}"],
        ["lab", "https://x.example", "--vendor", H],
    ],
    "profiles list": [[]],
    "profiles key": [[H]],
    "profiles remove": [[H]],
    "access add": [[H]],
    "access list": [[]],
    "access remove": [[H]],
    "squawk": [[], ["--crash"]],
}
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    info = folder / "site" / "cockatoo-0.1.dist-info"
    info.mkdir(parents=True)
    for name in ("parrot.py", "cockatoo.py"):
        shutil.copy(PLUGINS / name, folder / "site" / name)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cockatoo\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[tuneport]\ncockatoo = cockatoo\nswearer = swearer\n")
    (folder / "site" / "swearer.py").write_text(f"TUNEPORT_API = 1\nraise RuntimeError({H!r})\n")
    turns = [(f"words {n} {H}", f"{H} {n}") for n in range(12)]
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": output}], H: H}
        for asked, output in turns
    ]
    (folder / GOOD).write_text("".join(json.dumps(row) + "\n" for row in rows))
    bad: list[Any] = [{"messages": [{"role": H, "content": H}]}, {H: H}, [H], {"prompt": H, "completion": {H: 1}}]
    (folder / BAD).write_text("".join(json.dumps(row) + "\n" for row in bad))
    (folder / CONFIG).write_text(json.dumps({"model": "cockatoo:gray", "data": {"train": GOOD, "holdout": 0.25}}))
    (folder / KEYS).write_text(json.dumps({"model": H, H: {H: H}, "serve": {H: H}, "data": {H: 1}}))
    done = typed(folder, "run", CONFIG, "--json")
    assert done.returncode == 0, done.stderr
    (folder / "ref").write_text(json.loads(done.stdout)["ref"])
    return folder


def environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "TUNEPORT_HOME": str(folder / "home"), "PYTHONPATH": path, "AZURE_OPENAI_ENDPOINT": H}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tuneport.cli", *arguments]


def typed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    streams: dict[str, Any] = {"input": f"{H}\n\n", "capture_output": True, "text": True}
    return subprocess.run(command(*arguments), cwd=folder, env=environment(folder), timeout=120, **streams)


def harmless(output: str, *, lines: bool) -> None:
    assert not STEERS.search(output), output
    assert lines or not re.search("^forged", output, re.MULTILINE), output
    assert "😄" not in output


def test_every_command_has_a_case(place: Path) -> None:
    listing = "from tuneport.cli.app import commands; print(*commands(), sep='\\n')"
    found = subprocess.run(
        [sys.executable, "-c", listing], cwd=place, env=environment(place), capture_output=True, text=True, check=True
    )
    assert set(found.stdout.splitlines()) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_no_command_lets_text_control_the_terminal(name: str, place: Path) -> None:
    ref = (place / "ref").read_text()
    shown = ""
    for case in CASES[name]:
        arguments = [ref if one == REF else one for one in case]
        done = typed(place, *name.split(), *arguments)
        output = done.stdout + done.stderr
        assert ("Traceback" in output) == ("--crash" in case), output
        harmless(output, lines=name in HAS_LINES)
        shown += output
    if name not in ("schema", "prune", "report", "delete", "settle", "fix"):
        assert "pwn" in shown or name in ("profiles list", "access list"), shown  # the text was there to be shown


@pytest.mark.parametrize("name", ["show", "check", "plan", "profiles add"])
def test_json_keeps_the_value_and_cannot_control_the_terminal(name: str, place: Path) -> None:
    ref = (place / "ref").read_text()
    for case in CASES[name]:
        done = typed(place, *name.split(), *(ref if one == REF else one for one in case), "--json")
        assert json.loads(done.stdout)["version"] == 1
        assert not STEERS.search(done.stdout)
        harmless(done.stderr, lines=False)


@pytest.mark.parametrize("name", ["models", "show", "watch", "check", "ask"])
def test_a_terminal_with_colors_and_bars_is_safe_too(name: str, place: Path) -> None:
    ref = (place / "ref").read_text()
    arguments = [ref if one == REF else one for one in CASES[name][0]]
    parent, child = pty.openpty()
    process = subprocess.Popen(
        command(name, *arguments), cwd=place, env={**environment(place), "TERM": "xterm"}, stdin=child, stdout=child,
        stderr=child,
    )  # fmt: skip
    os.close(child)
    output = b""
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:  # Linux says so that the other end is closed
            break
        if not piece:
            break
        output += piece
    os.close(parent)
    process.wait(60)
    text = output.decode()
    ours = re.sub(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*[AK]", "", text).replace("\r", "")
    harmless(ours, lines=name in HAS_LINES)
    assert "\x1b]" not in text
    assert re.sub(r"\s", "", one_line("\x1b[31m\x9b31m")) in re.sub(r"\s", "", ours)
