"""Workers that cannot start: the job says what is broken, and resuming after a repair continues it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torch_jobs import (
    begin,
    log,
    no_worker_is_left,  # noqa: F401 - a fixture
    settled,
)
from tuneport import Status

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a package before the installed one of that name, in worker processes only."""

    def put(package: str, code: str) -> None:
        folder = tmp_path / "site" / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site") + os.pathsep + os.environ.get("PYTHONPATH", ""))

    return put


def test_a_torch_that_cannot_be_imported_is_named(tiny_llama: Path, own_home: Path, broken) -> None:
    broken("torch", "raise ImportError('libcudart.so.12: cannot open shared object file')")
    state = settled(job := begin(tiny_llama, "no-torch", count=5))
    assert state.status is Status.INTERRUPTED, log(job)
    assert "libcudart.so.12" in state.message
    assert "pip install -U 'tuneport[torch]'" in state.remedy
    assert "tuneport resume torch:no-torch" in state.remedy


def test_a_worker_that_does_not_come_up_says_what_it_printed(tiny_llama: Path, own_home: Path, broken) -> None:
    broken("msgspec", "raise RuntimeError('a broken wheel')")
    state = settled(job := begin(tiny_llama, "no-start", count=5))
    assert state.status is Status.INTERRUPTED, log(job)
    assert state.message == "Its worker crashed: RuntimeError: a broken wheel"
    assert str(job.folder.log) in state.remedy


def test_a_crash_in_native_code_is_named(tiny_llama: Path, own_home: Path, broken) -> None:
    broken("torch", "import ctypes; ctypes.string_at(0)")
    state = settled(job := begin(tiny_llama, "crash", count=5))
    assert state.status is Status.INTERRUPTED, log(job)
    assert state.message == "Its worker crashed: Fatal Python error: Segmentation fault"


def test_a_worker_that_exits_by_itself_is_no_success(tiny_llama: Path, own_home: Path, broken) -> None:
    broken("torch", "raise SystemExit(0)")
    state = settled(job := begin(tiny_llama, "exits", count=5))
    assert state.status is Status.INTERRUPTED, log(job)


def test_a_job_continues_after_the_installation_is_repaired(
    tiny_llama: Path, own_home: Path, broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken("torch", "raise ImportError('no')")
    job = begin(tiny_llama, "repaired", count=5)
    assert settled(job).status is Status.INTERRUPTED
    monkeypatch.delenv("PYTHONPATH")
    job.resume()
    assert settled(job).status is Status.SUCCEEDED, log(job)
