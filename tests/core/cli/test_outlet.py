"""Nothing prints except through the outlet: the source is searched for every call that could."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuneport.printable import Stream, one_line, visible, visible_json

ROOT = Path(__file__).parents[3]
OUTLET = "core/tuneport/terminal/outlet.py"
# What does not print for a person: processes of their own whose streams are pipes or a job's log, and standard input.
ELSEWHERE = {
    "core/tuneport/local/worker.py": {"sys.stderr", "traceback.print_exception", "traceback.print_exc"},
    "core/tuneport/local/waiting.py": {"sys.stderr"},
    "plugins/tuneport_torch/text/sandbox/check_grammar.py": {"sys.stdout"},
    "plugins/tuneport_torch/text/sandbox/render_template.py": {"sys.stdout"},
    "plugins/tuneport_torch/text/sandbox/run_tokenizer.py": {"sys.stdout"},
    "plugins/tuneport_server/background/check_file.py": {"sys.stdout", "sys.stderr"},
    "plugins/tuneport_server/background/start_job.py": {"traceback.print_exc"},  # for the server's log
    "core/tuneport/dataset/read/decoder_process.py": {"sys.stdout", "sys.stderr"},
    "plugins/tuneport_torch/bases/loading.py": {"sys.stderr"},  # what transformers wrote, through the guard
    "core/tuneport/cli/app.py": {"sys.stdout"},  # flushed and closed
}
CALLS = {"print", "input", "breakpoint"}
MODULES = {"rich.console", "rich.progress", "rich.live", "rich.prompt", "rich.status", "getpass", "click", "curses"}
NAMES = {
    *(f"sys.{name}" for name in ("stdout", "stderr", "__stdout__", "__stderr__", "displayhook")),
    *(f"typer.{name}" for name in ("echo", "secho", "style", "prompt", "confirm", "echo_via_pager", "progressbar")),
    *(f"traceback.{name}" for name in ("print_exc", "print_exception", "print_stack", "print_tb", "print_last")),
}


def prints(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            yield node.func.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (name := f"{node.value.id}.{node.attr}") in NAMES:
                yield name
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield node.module
        elif isinstance(node, ast.ImportFrom) and node.module in ("sys", "typer", "traceback"):
            yield from (name for one in node.names if (name := f"{node.module}.{one.name}") in NAMES)
        elif isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name in MODULES)


def sources() -> list[Path]:
    return sorted(
        [*(ROOT / "core" / "tuneport").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")],
    )


def test_nothing_prints_around_the_outlet() -> None:
    found = {}
    for source in sources():
        name = str(source.relative_to(ROOT))
        tree = ast.parse(source.read_text())
        for node in list(ast.walk(tree)):  # for types alone
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                node.body = [ast.Pass()]
        if name != OUTLET and (around := set(prints(tree)) - ELSEWHERE.get(name, set())):
            found[name] = around
    # bars and a sign of life are drawn on the outlet's console
    drawn = {"core/tuneport/cli/progress.py": {"rich.progress"}, "core/tuneport/terminal/tables.py": {"rich.live"}}
    assert found == drawn


def test_the_search_for_prints_finds_them() -> None:
    bad = "import sys, typer\nprint(1)\ntyper.echo(2)\nsys.stdout.write('')\nfrom rich.console import Console\n"
    assert set(prints(ast.parse(bad))) == {"print", "typer.echo", "sys.stdout", "rich.console"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;pwn\x07", "\\x1b]0;pwn\\x07"),
        ("\x9b31m\x7f\r\x00", "\\x9b31m\\x7f\\r\\x00"),
        ("a\n\tb", "a\n\tb"),
        ("\u202eabc\u2066\u2028\u200b\ufeff", "\\u202eabc\\u2066\\u2028\\u200b\\ufeff"),
        ("\udc80\ud800", "\\udc80\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("pay\u200dpal", "pay\\u200dpal"),
        ("می\u200cخواهم 👩\u200d🔬 e\u0301 日本", "می\u200cخواهم 👩\u200d🔬 e\u0301 日本"),
    ],
)
def test_control_and_invisible_characters_become_escapes_and_other_text_stays(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert one_line(text) == shown.replace("\n", "\\n").replace("\t", "\\t")
    for size in (1, 2, 3):  # in pieces it is the same
        stream = Stream()
        pieces = [stream.feed(text[start : start + size]) for start in range(0, len(text), size)]
        assert "".join(pieces) + stream.end() == shown


def test_json_keeps_its_meaning_and_has_no_control_characters() -> None:
    import json

    value = {"na\x9bme": "\x1b\x7f\u202e\U000e0041\u200dé😀\ud800\n"}
    text = visible_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert visible(text) == text
    assert "é😀" in text
