"""A file that tuneport writes is complete or absent, whatever happens; a lock is one process's."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tuneport.files import lock_file, open_regular, replace_file, try_lock, write_file, write_json
from tuneport.spelling import did_you_mean


def test_a_file_is_written_with_its_permissions_and_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_file(path, "first, which is longer")
    write_file(path, "sécond", mode=0o600)
    assert path.read_bytes() == "sécond".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    write_json(path, {"b": [1, "é"]})
    assert path.read_text(encoding="utf-8") == '{\n  "b": [\n    1,\n    "é"\n  ]\n}\n'
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_file(path, "old")
    with pytest.raises(RuntimeError), replace_file(path) as stream:
        stream.write(b"half of the new")
        raise RuntimeError
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_file(path, "old")
    code = f"""
import os, signal
from tuneport.files import replace_file
with replace_file({str(path)!r}) as stream:
    stream.write(b"half"); stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_a_lock_is_held_against_threads_and_processes_and_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock_file(path), pytest.raises(BlockingIOError), lock_file(path, wait=False):
        pass
    code = (
        f"from tuneport.files import lock_file\nwith lock_file({str(path)!r}):\n    print(1, flush=True)\n    input()"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"1\n"
    with pytest.raises(BlockingIOError), lock_file(path, wait=False):
        pass
    with try_lock(path) as held:
        assert not held
    other.kill()
    with lock_file(path):  # waits until the system has released it
        pass
    other.communicate()
    with pytest.raises(BlockingIOError), try_lock(path) as held:  # one from inside the block is the block's own
        assert held
        raise BlockingIOError


def test_a_pipe_is_neither_read_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


def test_a_similar_name_is_offered_whatever_its_case() -> None:
    assert did_you_mean("EPOCH", ["seed", "epochs"]) == "Did you mean epochs? "
    assert did_you_mean("sead", ["seed", "seat"], most=2) in (
        "Did you mean seed or seat? ",
        "Did you mean seat or seed? ",
    )
    assert did_you_mean("x", ["seed"]) == ""
