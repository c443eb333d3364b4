"""Messages for a write that found no room."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from functools import wraps
from typing import Protocol, TypeVar

from tuneport.errors import UnavailableError
from tuneport.local.folder import Folder
from tuneport.units import size


class _HasFolder(Protocol):
    folder: Folder


_J = TypeVar("_J", bound=_HasFolder)

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The errors of a write for which there is no room: a full disk, a used-up quota, a limit on the size of files."""


def needs_room(act: Callable[[_J], None]) -> Callable[[_J], None]:
    """A method of a job that writes to its folder: it raises UnavailableError where there is no room."""

    @wraps(act)
    def do(job: _J) -> None:
        try:
            act(job)
        except OSError as error:
            if error.errno not in FULL:
                raise
            message, _ = describe_full_disk(job.folder, error)
            raise UnavailableError(message, remedy=full_disk_remedy(job.folder, act.__name__)) from error

    return do


def describe_full_disk(folder: Folder, error: OSError) -> tuple[str, str]:
    """The message and the remedy for a write that had no room."""
    where = error.filename or folder.path
    reason = {errno.EDQUOT: "the disk quota is used up", errno.EFBIG: "a limit on the size of files was reached"}
    what = reason.get(error.errno or 0, "the disk is full")
    try:
        free = f"; {size(shutil.disk_usage(folder.path).free)} free at {folder.path}"
    except OSError:
        free = ""
    return f"Nothing more could be written to {where}: {what}{free}.", full_disk_remedy(folder)


def full_disk_remedy(folder: Folder, command: str = "resume") -> str:
    """What to free, and the command to run then."""
    free = "Free some space on that disk (`tuneport prune` lists what tuneport keeps)"
    return f"{free}, then run: tuneport {command} {folder.ref}"
