"""What a terminal shows: complete words at every width, and a chat with editing and history."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
import unicodedata
from pathlib import Path

import pytest

from tuneport.terminal import progress as live

WIDTHS = (60, 80, 100)
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


class Terminal:
    """A command at a terminal of so many columns."""

    def __init__(self, folder: Path, columns: int, *words: str, home: Path | None = None, module: bool = True) -> None:
        path = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH", "")]))
        place = {**os.environ, "TERM": "xterm", "PYTHONPATH": path}
        place |= {"TUNEPORT_HOME": str(home)} if home else {}
        place.pop("COLUMNS", None)
        self._parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        command = [sys.executable, *(["-m", "tuneport.cli"] if module else []), *words]
        self.process = subprocess.Popen(
            command, cwd=folder, env=place, stdin=child, stdout=child, stderr=child, start_new_session=True
        )
        os.close(child)
        self.output = ""

    def until(self, text: str, *, seconds: float = 60) -> None:
        ends = time.monotonic() + seconds
        while text not in self.output:
            assert time.monotonic() < ends, self.output
            assert self._read(), self.output

    def type(self, text: str) -> None:
        self.output = ""
        os.write(self._parent, text.encode())

    def end(self) -> str:
        while self._read():
            pass
        os.close(self._parent)
        self.process.wait(60)
        return CONTROL.sub("", self.output)

    def _read(self) -> bool:
        try:
            piece = os.read(self._parent, 65536)
        except OSError:  # Linux says so that the other end is closed
            return False
        self.output += piece.decode(errors="replace")
        return bool(piece)


@pytest.fixture
def place(tmp_path: Path, parrot: None, tickets: Path) -> Path:
    rows = [{"messages": [{"role": "user", "content": f"word{n}" * 5}]} for n in range(3)] + [{"odd": 1}]
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tune.yaml").write_text(f"model: parrot:gray\ndata: {{train: {tickets}, holdout: 0.25}}\n")
    done = subprocess.run(
        [sys.executable, "-m", "tuneport.cli", "run", "tune.yaml"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": _path(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tmp_path


def _path(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH", "")]))


COMMANDS = [
    ["check", "bad.jsonl", "--for", "parrot:gray"],
    ["plan", "tune.yaml"],
    ["jobs"],
    ["show", "last"],
    ["models"],
    ["plugins"],
    ["doctor"],
    ["show", "nothing-of-that-name"],
    ["run", "--help"],
    ["compare", "--help"],
    ["prune", "--help"],
]


IN_TURN = """
import json, sys
from tuneport.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit:
        pass
"""
SPINNER = re.compile("[\u2800-\u28ff]")


def output_of(folder: Path, columns: int) -> str:
    """What all commands show, one after the other in one process, at a terminal of so many columns."""
    return SPINNER.sub(" ", Terminal(folder, columns, "-c", IN_TURN, json.dumps(COMMANDS), module=False).end())


def test_no_word_is_broken_and_no_line_is_too_long(place: Path) -> None:
    wide = set(output_of(place, 4_000).split())
    for columns in WIDTHS:
        output = output_of(place, columns)
        assert output.count("Usage:") == 3
        unknown = {word for word in set(output.split()) - wide if not re.fullmatch(r"[\d.,]+|…", word)}
        assert not unknown, (columns, unknown)
        for line in output.split("\n"):
            longest = max(map(len, line.split()), default=0)
            assert len(line.rstrip()) <= max(columns, longest + 8) or "Planning" in line or "Checking" in line, line


def test_a_chat_has_editing_and_a_private_history(place: Path, own_home: Path) -> None:
    first = Terminal(place, 80, "chat", "last", home=own_home)
    first.until("> ")
    first.type("My card nevr arrived\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[De\n")
    first.until("card_arrival")
    first.until("> ")
    first.type("\n")
    first.end()
    kept = own_home / "chat_history"
    assert "My card never arrived" in kept.read_text()  # the arrow keys have moved the cursor
    assert kept.stat().st_mode & 0o777 == 0o600
    again = Terminal(place, 80, "chat", "last", home=own_home)
    again.until("> ")
    again.type("\x1b[A\n")  # the line of the conversation before
    again.until("card_arrival")
    again.until("> ")
    again.type("\x04")
    again.end()
    assert again.process.returncode == 0


def test_a_chat_saves_no_history_with_no_history(place: Path, own_home: Path) -> None:
    terminal = Terminal(place, 80, "chat", "last", "--no-history", home=own_home)
    terminal.until("> ")
    terminal.type("I forgot my PIN\n")
    terminal.until("> ")
    terminal.type("\n")
    terminal.end()
    assert terminal.process.returncode == 0
    assert not (own_home / "chat_history").exists()


def test_a_history_that_cannot_be_saved_does_not_end_a_chat(place: Path, own_home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine\n")
    (own_home / "chat_history").symlink_to(outside)
    terminal = Terminal(place, 80, "chat", "last", home=own_home)
    terminal.until("> ")
    terminal.type("I forgot my PIN\n")
    terminal.until("> ")
    terminal.type("\n")
    terminal.end()
    assert terminal.process.returncode == 0
    assert outside.read_text() == "mine\n"


def test_a_run_shows_what_it_is_doing_and_a_script_does_not(place: Path) -> None:
    at_terminal = Terminal(place, 80, "run", "tune.yaml", "--again")
    output = at_terminal.end()
    assert at_terminal.process.returncode == 0, output
    # In this order, each with a bar that moves until the next: the base and the tuned model are loaded on first use.
    steps = ["checking the rows", "starting the job", "loading the base model", "loading the tuned model"]
    places = [output.index(step) for step in steps]
    assert places == sorted(places)
    last = output.rpartition("graded by")[2]
    assert not any(step in last for step in steps)
    piped = subprocess.run(
        [sys.executable, "-m", "tuneport.cli", "run", "tune.yaml", "--again"],
        cwd=place, env={**os.environ, "PYTHONPATH": _path(place)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert piped.returncode == 0, piped.stderr
    assert not any(step in piped.stderr for step in steps)


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_streamed_answer_breaks_between_words(tmp_path: Path, columns: int) -> None:
    words = " ".join(f"wandering{'!' * (n % 9)}" for n in range(60))
    pieces = [words[start : start + 3] for start in range(0, len(words), 3)]
    code = f"from tuneport.terminal.outlet import say_pieces; assert say_pieces(iter({pieces!r})) == {words!r}"
    lines = Terminal(tmp_path, columns, "-c", code, module=False).end().strip("\n").split("\n")
    assert len(lines) > 5
    assert all(len(line) <= columns for line in lines)
    assert [word for line in lines for word in line.split()] == words.split()


WIDE = [
    ("日本語のモデル", "カード 届きません でした", "card"),
    ("résumé", "de\u0301cembre e\u0301te\u0301 mai", "date"),
    ("한국어", "카드가 도착하지 않았습니다", "card"),
    ("crying 😀😀", "where 😭 is my card 💳", "card"),
    ("ภาษาไทย", "บัตรของฉัน อยู่ที่ไหน", "card"),
    ("plain", "where is my card", "card"),
]
TABLE = "import json, sys; from tuneport.terminal.tables import print_table; print_table(*json.loads(sys.argv[1]))"


def cells(text: str) -> int:
    """How many cells a terminal gives a text: two to a wide character, none to a mark on the one before it."""
    return sum(
        0 if unicodedata.category(one) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


@pytest.mark.parametrize("columns", [30, 50, 100])
def test_a_table_with_wide_and_combining_characters_is_aligned_and_breaks_no_word(columns: int, tmp_path: Path) -> None:
    table = json.dumps([["name", "いつ", "label"], WIDE])
    output = Terminal(tmp_path, columns, "-c", TABLE, table, module=False).end()
    lines = [line.rstrip() for line in output.splitlines()]
    assert {word for row in WIDE for text in row for word in text.split()} <= set(output.split()), output
    assert max(map(cells, lines)) <= columns, output
    if columns == 100:
        for column in (1, 2):
            places = {cells(line[: line.rindex(row[column])]) for line, row in zip(lines[1:], WIDE, strict=True)}
            assert places == {cells(lines[0][: lines[0].index(("いつ", "label")[column - 1])])}, output


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_redrawn_line_covers_a_wider_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    line = live._Line("日本語")
    line.draw(0, 0, "カード")
    line._title = "ab"
    line.draw(0, 0, "")
    first, second = screen.getvalue().split("\r")[1:]
    assert cells(second) == cells(first) == 13
