"""Messages for a write that found no room."""

from __future__ import annotations

import errno
import shutil

from tuneport.local.folder import Folder
from tuneport.units import size

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The errors of a write for which there is no room: a full disk, a used-up quota, a limit on the size of files."""


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


def full_disk_remedy(folder: Folder) -> str:
    """What to free, and how to continue."""
    free = "Free some space on that disk (`tuneport prune` lists what tuneport keeps)"
    return f"{free}, then run: tuneport resume {folder.ref}"
