"""A file of the server on this disk: streamed, continued where an earlier download ended, and hashed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport import BackendError, NotFoundError, TuneportError, UsageError

if TYPE_CHECKING:
    from tuneport_openai.client import Wire
    from tuneport_openai.move.account import OldFile

LARGEST = 64 * 2**30
"""Bytes of the largest file that is downloaded."""
_BLOCK = 2**20
_LEAST_SECONDS, _LEAST_RATE = 300.0, 250_000.0  # the time for a download: at this many bytes a second
_MOST_FAILURES = 4  # in a row, without a byte between them
_LONGEST_PAUSE = 8.0

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """A file that is complete on this disk, with the SHA-256 of its bytes as hex."""

    path: Path
    bytes: int
    sha256: str


def download(
    wire: Wire, file: OldFile, target: Path, *, exact: bool = True, tell: Progress | None = None
) -> Downloaded:
    """Bring a file here. What an earlier call has left of it is continued, where the server can send a part.

    With `exact`, a file whose size is not the one that the server has told is an error. `tell` gets (bytes here, bytes
    in all or None). Raises NotFoundError where the server has the file no more, UnavailableError or BackendError where
    it cannot be read to its end, and UsageError where it cannot be written.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        failures = 0
        if file.bytes is not None and _size(part) > file.bytes:
            part.unlink()
        while not file.bytes or _size(part) != file.bytes:
            before = _size(part)
            try:
                _receive(wire, file, part, tell)
                break
            except TuneportError as error:
                if before and _status(error) == 416:  # what is here is not the beginning of what is there
                    part.unlink()
                    continue
                if isinstance(error, NotFoundError) or not error.passing:
                    raise
                failures = 0 if _size(part) > before else failures + 1
                if failures >= _MOST_FAILURES:
                    raise
                time.sleep(min(_LONGEST_PAUSE, error.retry_after or 0.5 * 2**failures))
        here = _size(part)
        if exact and file.bytes is not None and here != file.bytes:
            part.unlink()  # whatever it is, going on with it would not make it right
            raise BackendError(
                f"{wire.profile.name} sent {here:,} bytes of {file.id}, which has {file.bytes:,}.",
                remedy="Run the same command again.",
            )
        return _put_in_place(part, target)
    except OSError as error:
        raise cannot_write(target, error) from error


def copy_in(source: Path, target: Path) -> Downloaded:
    """A file of this machine in place of one that the server has no more. Raises UsageError."""
    part = target.with_name(f".{target.name}.part")
    try:
        with source.open("rb") as origin, part.open("wb") as out:
            while block := origin.read(_BLOCK):
                out.write(block)
            _sync(out)
        return _put_in_place(part, target)
    except OSError as error:
        raise cannot_write(source if error.filename == str(source) else target, error) from error


def cannot_write(path: Path, error: OSError) -> UsageError:
    """The error for a disk that is full or a file that may not be written."""
    return UsageError(
        f"{path}: {error.strerror or error}.",
        remedy="Make room, or check the name and the permissions. The same command goes on with what is left.",
    )


def _receive(wire: Wire, file: OldFile, part: Path, tell: Progress | None) -> None:
    """Ask for what is missing and write it behind what is there; all of it where the server sends all of it."""
    here = _size(part)
    headers = {"Accept": "*/*", **({"Range": f"bytes={here}-"} if here else {})}
    seconds = max(_LEAST_SECONDS, (file.bytes or 0) / _LEAST_RATE)
    with (
        wire.speaking(f"downloading {file.id}"),
        wire.once.files.with_streaming_response.content(file.id, extra_headers=headers, timeout=seconds) as answer,
    ):
        continues = answer.status_code == 206 and _starts_at(answer, here)
        here = here if continues else 0
        with _writing(part), part.open("ab" if continues else "wb") as out:
            for piece in answer.iter_bytes():
                out.write(piece)
                here += len(piece)
                if tell is not None:
                    tell(here, file.bytes)
            _sync(out)


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    """Tell a fault of this disk from one of the connection: the HTTP library has exceptions of its own."""
    try:
        yield
    except OSError as error:
        target = part.with_name(part.name.removeprefix(".").removesuffix(".part"))
        raise cannot_write(target, error) from error


def _status(error: TuneportError) -> int | None:
    return getattr(error.__cause__, "status_code", None)


def _starts_at(answer: Any, byte: int) -> bool:
    return str(answer.headers.get("content-range", "")).strip().startswith(f"bytes {byte}-")


def _put_in_place(part: Path, target: Path) -> Downloaded:
    digest, size = hashlib.sha256(), 0
    with part.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    part.replace(target)
    return Downloaded(path=target, bytes=size, sha256=digest.hexdigest())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
