"""An export is complete or absent, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tuneport
from tuneport_torch.export.atomic import atomic_output

WRITES = """
import sys
from pathlib import Path
from tuneport_torch.export.atomic import atomic_output
with atomic_output(Path(sys.argv[1]), folder=sys.argv[2] == "folder") as draft:
    (draft / "half" if draft.is_dir() else draft).write_text("half of it")
    print("half", flush=True)
    sys.stdin.read()
"""


def started(path: Path, kind: str) -> subprocess.Popen[str]:
    """A process that has written half of it."""
    command = [sys.executable, "-c", WRITES, str(path), kind]
    process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_leftovers_of_a_killed_process_are_removed_by_the_next_one_for_the_same_path(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "model[1].gguf", tmp_path / "another.gguf"
    processes = [started(path, kind), started(other, kind)]
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_output(path, folder=kind == "folder") as draft:
        (draft / "all" if kind == "folder" else draft).write_text("all of it")
    assert path.is_dir() == (kind == "folder")
    [left] = [one.name for one in tmp_path.iterdir() if one != path]
    assert left.endswith("-another.gguf")


def test_the_draft_of_another_running_process_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model"
    process = started(path, "folder")
    with pytest.raises(RuntimeError), atomic_output(path):
        raise RuntimeError("given up")
    process.communicate("")
    assert process.returncode == 0
    assert [one.name for one in tmp_path.iterdir()] == ["model"]
    assert (path / "half").read_text() == "half of it"


def test_an_existing_path_is_refused_unless_it_is_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with atomic_output(tmp_path / "model") as draft:
        (draft / "config.json").write_text("{}")
    with pytest.raises(tuneport.errors.UsageError, match="already exists"), atomic_output(tmp_path / "model"):
        pass


def test_outputs_are_as_readable_as_other_new_files(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with atomic_output(tmp_path / "made") as draft:
        (draft / "weights.safetensors").touch(mode=0o600)
    assert (tmp_path / "made" / "weights.safetensors").stat().st_mode == plain.stat().st_mode
