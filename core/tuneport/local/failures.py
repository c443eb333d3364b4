"""From whatever ended a training to a status, what happened, and what to type."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tuneport.errors import BackendError, HomeError, TuneportError, UnavailableError
from tuneport.plugin import Status
from tuneport_torch.jobs.folder import Folder
from tuneport_torch.jobs.launch import FULL, LESS_MEMORY, full_disk

_OS_ERROR = re.compile(r"os error (\d+)", re.IGNORECASE)  # how libraries written in Rust quote errno
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|cannot allocate memory", re.IGNORECASE)
_DEVICE = re.compile(r"^(CUDA|cuDNN|cuBLAS|NCCL|HIP|MPS)[ _]|CUDA error|can't start new thread", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job stands after an error: `paused` and `interrupted` jobs can be resumed, failed ones cannot."""

    status: Status
    message: str
    remedy: str | None


def explain(error: BaseException, folder: Folder, *, resumable: bool) -> Ending:
    """What an error means for the job. `resumable`: there is a checkpoint, so going on may be worth it."""
    resume = f"tuneport resume {folder.ref}"
    full = next((found for found in _chain(error) if _number(found) in FULL), None)
    if full is not None:
        known = full if isinstance(full, OSError) else OSError(_number(full), str(full))
        return Ending(Status.PAUSED, *full_disk(folder, known))
    if any(_out_of_memory(found) for found in _chain(error)):
        return _memory(folder, resumable=resumable)
    passing = _passing(error)
    if passing is not None:
        message, cure = passing
        return Ending(Status.INTERRUPTED, message, f"{cure} Then run: {resume}" if cure else f"Run: {resume}")
    if isinstance(error, TuneportError):
        return Ending(Status.FAILED, error.message, error.remedy)
    first = (str(error).strip() or "no words").splitlines()[0]
    return Ending(
        Status.FAILED,
        f"{type(error).__name__}: {first}",
        f"The whole story is in {folder.log}. If it is not the data or the settings, please report it.",
    )


def may_pass(error: BaseException | None) -> bool:
    """Whether the next try may go better, by what is behind an error. An OSError that no system raised says what a
    library found in a file, and does not count.
    """
    causes = (found for found in _chain(error) if not isinstance(found, TuneportError))
    return any(_passing(found) for found in causes if not (isinstance(found, OSError) and found.errno is None))


def _passing(error: BaseException) -> tuple[str, str | None] | None:
    """What happened and its cure for an error that may be gone at the next try; None for one that comes again.

    A network, a drive, a package, a device or a service may come back, and an installation be repaired. Bad rows and
    bad settings stay as they are.
    """
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, UnavailableError | BackendError | HomeError):
        return error.message, error.remedy or ("Bring it back." if isinstance(error, UnavailableError) else None)
    if isinstance(error, TuneportError):
        return None
    if isinstance(error, ImportError) or "partially initialized module" in first:
        cure = "Repair the installation: pip install -U 'tuneport[torch]'"
        return f"A package that training needs cannot be imported: {first}.", cure
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} is gone.", "Put it back."
    if isinstance(error, OSError):
        return f"The system refused an operation: {first}.", "Remove the cause."
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "The worker was asked to end.", None
    if isinstance(error, RuntimeError) and _DEVICE.search(first):
        return f"The device or a thread could not be used: {first}", "Look whether another program holds it."
    return None


def _memory(folder: Folder, *, resumable: bool) -> Ending:
    if resumable:
        remedy = f"Free memory, then run: tuneport resume {folder.ref} — or start anew and {LESS_MEMORY}."
        return Ending(Status.INTERRUPTED, "Out of memory during the training; its checkpoint is whole.", remedy)
    return Ending(
        Status.FAILED, "Out of memory before the first checkpoint.", f"{LESS_MEMORY[0].upper()}{LESS_MEMORY[1:]}."
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    quoted = _OS_ERROR.search(str(error))
    return int(quoted[1]) if quoted else None


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is torch's
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
