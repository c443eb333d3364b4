"""Runs a page of the documentation from top to bottom, in the current folder: `python run_page.py docs/tutorial.md`.

What is run is what is shown:

- a `python` block is executed, and its names stay for the blocks after it; a block of `>>>` lines is a doctest;
- a `python`, `yaml` or `toml` block whose first line is a comment with a file's name is written to that file;
- in a `console` block, `$ tuneport …` goes through the command line's own entry, any other `$ …` through the shell.
  Each must end with exit code 0, or the one that a line `exit code N` after it says. What it prints is not compared,
  because the pages show a real model's answers and these runs use a tiny random one.

Blocks in any other language are not run.
"""

from __future__ import annotations

import doctest
import importlib
import io
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

from tuneport import loader
from tuneport.cli.app import invoke
from tuneport.terminal import outlet

FILE = re.compile(r"# (\S+\.(?:py|yaml|toml))\n")
CODE = re.compile(r"exit code (\d+)")


def python(example: Example) -> None:
    """Execute a block, or write it to the file that its first line names."""
    if written(example):
        return
    if example.parsed.startswith(">>>"):
        test = doctest.DocTestParser().get_doctest(
            example.parsed, example.namespace, example.path, example.path, example.line
        )
        failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False)
        assert not failed, "see above"
        return
    lines = "\n" * (example.line + example.parsed.line_offset)  # so that a traceback names the page's own line
    exec(compile(lines + example.parsed, example.path, "exec", dont_inherit=True), example.namespace)


def written(example: Example) -> bool:
    """Whether the block is a file's content; it is written then."""
    found = FILE.match(example.parsed)
    if found:
        Path(found[1]).write_text(example.parsed)
    return found is not None


def yaml(example: Example) -> None:
    """Write a config that has a file's name; another is only an example."""
    written(example)


def toml(example: Example) -> None:
    """Write a file of a package."""
    written(example)


def console(example: Example) -> None:
    """Type each `$ ` line of a block."""
    lines = example.parsed.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("$ "):
            after = lines[number + 1] if number + 1 < len(lines) else ""
            promised = int(found[1]) if (found := CODE.fullmatch(after)) else 0
            code, said = typed(line[2:])
            assert code == promised, f"{line}\nended with exit code {code}, not {promised}:\n{said}"


def typed(line: str) -> tuple[int, str]:
    """The exit code of a command and what it said."""
    words = shlex.split(line, comments=True)
    if words[0] != "tuneport" or any(word in ("|", ">", "<", "&&") for word in words):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
        loader.load.cache_clear()  # the command may have installed one
        importlib.invalidate_caches()
        return done.returncode, done.stdout + done.stderr
    outlet.console.cache_clear()
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        return invoke(words[1:]), said.getvalue()


def main(page: Path) -> None:
    parsers = [CodeBlockParser(one.__name__, one) for one in (python, yaml, toml, console)]
    for example in Sybil(parsers).parse(page).examples():
        print(f"{page.name}:{example.line}", flush=True)
        example.evaluate()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
