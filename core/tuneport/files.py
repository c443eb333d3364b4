"""Files that are complete or absent, locks between processes, and regular files opened safely."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, BinaryIO

from tuneport.doors import AUTHORS, public


@public(AUTHORS)
@contextmanager
def replace_file(path: str | os.PathLike[str], *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Yield a stream whose bytes become the file `path` when the block ends without an exception.

    The file appears under its name only when it is complete and flushed to disk, and replaces one that is there. A
    killed process leaves at most a file named `.NAME.*.part` in the same folder. `mode` is the file's permissions.
    Raises OSError.
    """
    path = Path(path)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    sync(path.parent)


@public(AUTHORS)
def write_file(path: str | os.PathLike[str], content: str | bytes, *, mode: int = 0o644) -> None:
    """Write a complete file (text as UTF-8), flushed to disk, in place of one that is there. Raises OSError."""
    with replace_file(path, mode=mode) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@public(AUTHORS)
def write_json(path: str | os.PathLike[str], value: Any, *, mode: int = 0o644) -> None:
    """Write a value as an indented JSON file, as `write_file` does. Raises OSError, and ValueError for NaN."""
    write_file(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", mode=mode)


@public(AUTHORS)
def sync(path: str | os.PathLike[str]) -> None:
    """Flush a file's bytes, or a folder's names, to disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@public(AUTHORS)
@contextmanager
def lock_file(path: str | os.PathLike[str], *, wait: bool = True) -> Iterator[FileIO]:
    """Hold the lock of a file, which is created where needed; no other process or thread holds it meanwhile.

    The system releases the lock when the process ends, however it ends. Without `wait`, raises BlockingIOError when
    another one holds it. Raises OSError where the file cannot be opened or its file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as held:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        try:
            yield held
        finally:
            fcntl.flock(held, fcntl.LOCK_UN)  # also where a forked child has inherited it


@public(AUTHORS)
@contextmanager
def try_lock(path: str | os.PathLike[str], *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a file as `lock_file` does, and yield True; yield False when another one holds it. With `wait`,
    waits for it instead. Raises OSError.
    """
    with ExitStack() as held:
        try:
            held.enter_context(lock_file(path, wait=wait))
        except BlockingIOError:
            yield False
            return
        yield True


@public(AUTHORS)
def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file to read its bytes. Raises OSError, also for a folder, a pipe or a device: opening a pipe
    waits for its writer, and a device may have no end.

    >>> open_regular("/dev/null")
    Traceback (most recent call last):
    OSError: [Errno 22] it is not a regular file: '/dev/null'
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
