"""From the exception that ended a training to a status, a message and a remedy."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tuneport.contract.events import Status
from tuneport.doors import LOCAL, public
from tuneport.errors import BackendError, HomeError, TuneportError, UnavailableError
from tuneport.local.disk import FULL, describe_full_disk
from tuneport.local.folder import Folder

_OS_ERROR = re.compile(r"os error (\d+)", re.IGNORECASE)  # how libraries written in Rust quote errno
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|cannot allocate memory", re.IGNORECASE)
_DEVICE = re.compile(r"^(CUDA|cuDNN|cuBLAS|NCCL|HIP|MPS)[ _]|CUDA error|can't start new thread", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ending:
    """The status of a job after an error: `paused` and `interrupted` jobs can be resumed, failed ones cannot."""

    status: Status
    message: str
    remedy: str | None


def explain(
    error: BaseException, folder: Folder, *, resumable: bool, less_memory: str = "", install: str = ""
) -> Ending:
    """What an error means for the job. `resumable`: there is a checkpoint to continue from. `less_memory` says what to
    change when memory is short, `install` how the backend's packages are installed.
    """
    resume = f"tuneport resume {folder.ref}"
    full = next((found for found in _chain(error) if _number(found) in FULL), None)
    if full is not None:
        known = full if isinstance(full, OSError) else OSError(_number(full), str(full))
        return Ending(Status.PAUSED, *describe_full_disk(folder, known))
    if any(_out_of_memory(found) for found in _chain(error)):
        return _memory(folder, less_memory, resumable=resumable)
    passing = _passing(error, install)
    if passing is not None:
        message, cure = passing
        return Ending(Status.INTERRUPTED, message, f"{cure} Then run: {resume}" if cure else f"Run: {resume}")
    if isinstance(error, TuneportError):
        return Ending(Status.FAILED, error.message, error.remedy)
    first = (str(error).strip() or "no message").splitlines()[0]
    return Ending(
        Status.FAILED,
        f"{type(error).__name__}: {first}",
        f"The full log is in {folder.log}. If neither the data nor the settings are the cause, please report it.",
    )


@public(LOCAL)
def may_pass(error: BaseException | None) -> bool:
    """Whether the next try may succeed, judged by the causes of an error. An OSError that the system did not raise
    reports what a library found in a file, and does not count.
    """
    causes = (found for found in _chain(error) if not isinstance(found, TuneportError))
    return any(_passing(found) for found in causes if not (isinstance(found, OSError) and found.errno is None))


def _passing(error: BaseException, install: str = "") -> tuple[str, str | None] | None:
    """The message and the remedy of an error that may be gone at the next try; None for one that would return.

    A network, a drive, a package, a device or a service may come back, and an installation can be repaired. Bad rows
    and bad settings stay as they are.
    """
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, UnavailableError | BackendError | HomeError):
        return error.message, error.remedy or (
            "Make it available again." if isinstance(error, UnavailableError) else None
        )
    if isinstance(error, TuneportError):
        return None
    if isinstance(error, ImportError) or "partially initialized module" in first:
        cure = f"Repair the installation{f': {_upgrade(install)}' if install else '.'}"
        return f"A package that training needs cannot be imported: {first}.", cure
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} is gone.", "Restore the file."
    if isinstance(error, OSError):
        return f"The operating system refused an operation: {first}.", "Fix the cause."
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "The worker received a signal to stop.", None
    if isinstance(error, RuntimeError) and _DEVICE.search(first):
        return f"The device or a thread could not be used: {first}", "Check whether another program uses it."
    return None


def _memory(folder: Folder, less_memory: str, *, resumable: bool) -> Ending:
    if resumable:
        instead = f" — or start a new run and {less_memory}" if less_memory else ""
        remedy = f"Free memory, then run: tuneport resume {folder.ref}{instead}."
        return Ending(Status.INTERRUPTED, "Out of memory during the training; its checkpoint is complete.", remedy)
    remedy = less_memory or "train on fewer rows at once, or train a smaller model"
    return Ending(Status.FAILED, "Out of memory before the first checkpoint.", f"{remedy[0].upper()}{remedy[1:]}.")


def _upgrade(install: str) -> str:
    return install.replace("pip install ", "pip install -U ", 1)


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
