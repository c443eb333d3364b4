"""Standard streams with old encodings: every command behaves as it does with UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TYPED = """
import sys, json
from tuneport.cli import main
codes = []
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        codes.append(end.code)
with open(sys.argv[2], "w") as out:
    json.dump(codes, out)
"""


@pytest.mark.usefixtures("parrot")
def test_every_command_behaves_as_with_utf_8(tmp_path: Path, tickets: Path) -> None:
    odd = tmp_path / "odd.csv"
    odd.write_text("prompt,completion\nGrüße → 日本,☂ naïve\n,leer\n", encoding="utf-8")
    model = ["--model", "parrot:gray"]
    commands = [
        ["check", str(tickets)],
        ["check", str(odd)],
        ["preview", str(odd)],
        ["plan", str(tickets), *model],
        ["run", str(tickets), *model, "--holdout", "0.25"],
        ["run", str(tickets), *model, "--holdout", "0.25", "--json"],
        ["jobs"],
        ["show", "last"],
        ["compare", "last", "--data", str(odd), "--set-nothing"],
        ["compare", "last", "--data", str(odd), "--no-base"],
        ["ask", "last", "→ ☂?"],
        ["models"],
        ["plugins"],
        ["doctor"],
        ["show", "nothing-→"],
        ["schema"],
        ["--help"],
    ]
    ends = {}
    for encoding in ("utf-8", "latin-1", "ascii:strict", "cp1252", "gbk"):
        place = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": _path(tmp_path)}
        place["TUNEPORT_HOME"] = str(tmp_path / encoding.replace(":", "-"))
        found = tmp_path / "codes"
        done = subprocess.run(
            [sys.executable, "-c", TYPED, json.dumps(commands), str(found)],
            env=place, cwd=tmp_path, capture_output=True, timeout=300,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
        ends[encoding] = json.loads(found.read_text())
    assert len(ends["utf-8"]) == len(commands)
    assert ends["utf-8"][3:8] == [0] * 5
    assert all(codes == ends["utf-8"] for codes in ends.values()), ends


def _path(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH", "")]))
