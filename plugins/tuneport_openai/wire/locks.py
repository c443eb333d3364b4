"""Files that processes lock: opened without waiting for anything."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path


def open_lock(path: Path) -> FileIO:
    """Open a file to lock it, created where needed; a pipe in its place is not waited for."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    return os.fdopen(descriptor, "wb", buffering=0)
