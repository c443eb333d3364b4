"""Every way to end says what happened and what to type."""

from __future__ import annotations

import errno
import json
import math
import shutil
from pathlib import Path

import pytest

from torch_jobs import begin, no_worker_is_left, settled  # noqa: F401 - the second is a fixture
from tuneport import Status
from tuneport.errors import BackendError, DataError, HomeError, UnavailableError
from tuneport.local.failures import Ending, may_pass
from tuneport.local.failures import explain as explain_failure
from tuneport.local.folder import Folder
from tuneport_torch import TorchBackend


@pytest.fixture
def folder(own_home: Path) -> Folder:
    made = Folder.named("torch", "job")
    made.path.mkdir()
    return made


def explain(error: BaseException, folder: Folder, *, resumable: bool) -> Ending:
    """As the worker of a torch job does."""
    backend = TorchBackend
    return explain_failure(error, folder, resumable=resumable, less_memory=backend.less_memory, install=backend.install)


class OutOfMemoryError(RuntimeError):
    """By the name that torch gives it."""


def chained(cause: BaseException) -> BaseException:
    error = RuntimeError("the checkpoint could not be written")
    error.__cause__ = cause
    return error


def test_what_a_library_finds_in_a_file_comes_again_and_what_the_system_says_may_pass() -> None:
    for cause in (KeyError("boom"), OSError("no file named config.json"), RuntimeError("size mismatch")):
        assert not may_pass(chained(cause))
    for cause in (OSError(errno.EIO, "Input/output error"), ImportError("no bitsandbytes")):
        assert may_pass(chained(cause))


def test_a_job_with_a_model_that_cannot_be_built_has_failed(tiny_llama: Path, own_home: Path) -> None:
    base = Path(shutil.copytree(tiny_llama, own_home / "base"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "hidden_act": "boom"}))
    state = settled(begin(base, "boom", count=4))
    assert (state.status, state.message) == (Status.FAILED, f"{base} could not be loaded: 'boom'")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/weights"), "/x/weights: the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up"),
        (OSError(errno.EFBIG, "File too large"), "a limit on the size of files was reached"),
        (chained(OSError(errno.ENOSPC, "No space left on device")), "the disk is full"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "the disk is full"),
    ],
)
def test_a_write_without_room_pauses_the_job(folder: Folder, error: BaseException, words: str) -> None:
    ending = explain(error, folder, resumable=True)
    assert ending.status is Status.PAUSED
    assert words in ending.message
    assert "free" in ending.message
    assert "tuneport prune" in ending.remedy
    assert "tuneport resume torch:job" in ending.remedy


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        chained(MemoryError()),
    ],
)
def test_out_of_memory_fails_at_the_start_and_interrupts_later(folder: Folder, error: BaseException) -> None:
    first = explain(error, folder, resumable=False)
    assert first.status is Status.FAILED
    assert "Out of memory" in first.message
    assert "tokens_per_batch" in first.remedy
    later = explain(error, folder, resumable=True)
    assert later.status is Status.INTERRUPTED
    assert "tuneport resume torch:job" in later.remedy


def test_what_is_missing_interrupts_and_what_is_wrong_fails(folder: Folder) -> None:
    missing = explain(UnavailableError("No network.", remedy="Go online."), folder, resumable=False)
    assert missing.status is Status.INTERRUPTED
    assert missing.remedy == "Go online. Then run: tuneport resume torch:job"
    gone = explain(FileNotFoundError(errno.ENOENT, "No such file", "/data/base"), folder, resumable=True)
    assert gone.status is Status.INTERRUPTED
    assert gone.message == "/data/base is gone."
    wrong = explain(DataError("Row 3 is empty.", remedy="Remove it."), folder, resumable=True)
    assert (wrong.status, wrong.message, wrong.remedy) == (Status.FAILED, "Row 3 is empty.", "Remove it.")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError("cannot import name 'AutoTokenizer'"), "cannot be imported"),
        (AttributeError("partially initialized module 'x' has no attribute 'y'"), "cannot be imported"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/base"), "Permission denied"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "Connection reset"),
        (BackendError("The service answered 503."), "The service answered 503."),
        (HomeError("The ledger is locked."), "The ledger is locked."),
        (RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"), "busy or unavailable"),
        (RuntimeError("can't start new thread"), "can't start new thread"),
    ],
)
def test_what_may_pass_interrupts_and_says_how_to_go_on(folder: Folder, error: BaseException, words: str) -> None:
    ending = explain(error, folder, resumable=False)
    assert ending.status is Status.INTERRUPTED
    assert words in ending.message
    assert "tuneport resume torch:job" in ending.remedy


def test_what_nobody_foresaw_names_itself_and_the_log(folder: Folder) -> None:
    ending = explain(KeyError("layers"), folder, resumable=True)
    assert ending.status is Status.FAILED
    assert ending.message == "KeyError: 'layers'"
    assert str(folder.log) in ending.remedy


def test_a_job_whose_losses_are_not_finite_fails_and_says_what_to_change(tiny_llama: Path, tmp_path: Path) -> None:
    """A base with a damaged weight, which no check of its files could see."""
    from safetensors.torch import load_file, save_file

    base = tmp_path / "base"
    shutil.copytree(tiny_llama, base)
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][0, 0] = math.inf
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    job = begin(base, "damaged", packing=False)
    state = settled(job)
    assert state.status is Status.FAILED
    assert "not finite in 5 steps in a row" in state.message
    assert "learning_rate" in state.remedy
    skipped = [event for event in job.events() if "is skipped" in event.message]
    assert [event.level for event in skipped] == ["warning"] * 5
