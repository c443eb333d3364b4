"""Commands that only read a folder run no code in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

pytestmark = pytest.mark.usefixtures("parrot")
LIBRARIES = (
    "typer",
    "rich",
    "msgspec",
    "pydantic",
    "pluggy",
    "psutil",
    "numpy",
    "pyarrow",
    "torch",
    "openai",
    "tuneport_torch",
)


def test_no_command_that_starts_nothing_runs_code_of_the_working_folder(
    process: Callable[..., Any], tickets: Path, tmp_path: Path
) -> None:
    canary = tmp_path / "ran"
    runs = f"open({str(canary)!r}, 'a').write(__name__)\ndef score(example, answer): return 1.0\n"
    for name in (*LIBRARIES, "grading"):
        (tmp_path / f"{name}.py").write_text(runs)
    (tmp_path / "tune.yaml").write_text(
        "model: parrot:gray\ndata: {train: tickets.csv, holdout: 0.25}\ncompare: {grader: 'grading:score'}\n"
    )
    rows = [{"prompt": f"Question {number}", "completion": "card"} for number in range(20)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for arguments in (
        ["--help"], ["--version"], ["check", "tickets.csv"], ["check", "rows.parquet"],
        ["preview", "tickets.csv"], ["plan", "tune.yaml"],
        ["init", "tickets.csv", "--model", "parrot:gray", "-o", "new.yaml"], ["doctor"], ["models"], ["jobs"],
    ):  # fmt: skip
        done = process(*arguments)
        out, err = done.communicate(timeout=120)
        assert done.returncode == 0, (arguments, out, err)
        assert not canary.exists(), (arguments, canary.read_text())
    done = process("run", "tune.yaml")
    _, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert canary.read_text() == "grading"  # which a run does grade with
