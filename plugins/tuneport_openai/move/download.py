"""Download a file of the server: streamed, continued where an earlier download ended, and hashed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.errors import BackendError, NotFoundError, TuneportError, UsageError
from tuneport.plugin import local_path, open_regular

if TYPE_CHECKING:
    from tuneport_openai.move.old_job import OldFile
    from tuneport_openai.wire.client import Wire

LARGEST = 64 * 2**30
"""The largest file that is downloaded, in bytes."""
_BLOCK = 2**20
_LEAST_SECONDS, _LEAST_RATE = 300.0, 250_000.0  # the time limit of a download: its size at this many bytes a second
_MOST_FAILURES = 4  # in a row, without a byte between them
_LONGEST_PAUSE = 8.0
_NOT_REFUSALS = (401, 402, 408, 416, 425, 429)  # the key, the bill, or the moment

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """A file that is complete on this disk, with the SHA-256 of its bytes as hex."""

    path: Path
    bytes: int
    sha256: str


Keep = Callable[[Downloaded], None]


def download(
    wire: Wire, file: OldFile, target: Path, keep: Keep, *, exact: bool = True, on_progress: Progress | None = None
) -> None:
    """Download a file. What an earlier call has left of it is continued, where the server can send a part.

    `keep` is called before the file gets its name, so a file of that name is complete and recorded. With `exact`, a
    size other than the one that the server lists is an error. `on_progress` gets (bytes here, bytes in all or None).
    Raises NotFoundError where the server no longer has the file, UnavailableError or BackendError where it cannot be
    read to its end, and UsageError where it cannot be written.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        failures = 0
        if file.bytes is not None and _size(part) > file.bytes:
            part.unlink()
        while not file.bytes or _size(part) != file.bytes:
            before = _size(part)
            try:
                _receive(wire, file, part, on_progress, most=file.bytes if exact else None)
                break
            except TuneportError as error:
                if before and _status(error) == 416:  # what is here is not the beginning of the file
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
            part.unlink()  # continuing it would not make it right
            raise BackendError(
                f"{wire.profile.name} sent {here:,} bytes of {file.id}, which has {file.bytes:,}.",
                remedy="Run the same command again.",
            )
        _put_in_place(part, target, keep)
    except OSError as error:
        raise write_error(target, error) from error


def copy_in(source: Path, target: Path, keep: Keep) -> None:
    """Copy a file of this machine in place of one that the server no longer has. Raises UsageError."""
    part = target.with_name(f".{target.name}.copy")  # not the draft of a download
    try:
        with open_regular(local_path(source)) as origin, part.open("wb") as out:
            while block := origin.read(_BLOCK):
                out.write(block)
            _sync(out)
        _put_in_place(part, target, keep)
    except OSError as error:
        if error.filename in (str(source), str(local_path(source))):
            raise UsageError(f"{source} cannot be read: {error.strerror}.", remedy="Check the name.") from error
        part.unlink(missing_ok=True)
        raise write_error(target, error) from error


def measure(path: Path) -> Downloaded:
    """The size and the hash of a file that is here."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return Downloaded(path=path, bytes=size, sha256=digest.hexdigest())


def is_refused(error: TuneportError) -> bool:
    """Whether the server will never send it: it is deleted, or not for this account."""
    status = _status(error)
    refused = status is not None and 400 <= status < 500 and status not in _NOT_REFUSALS
    return isinstance(error, NotFoundError) or refused


def write_error(path: Path, error: OSError) -> UsageError:
    """The error for a full disk or a file that may not be written."""
    return UsageError(
        f"{path}: {error.strerror or error}.",
        remedy="Free some space, or check the name and the permissions. The same command continues from there.",
    )


def _receive(wire: Wire, file: OldFile, part: Path, on_progress: Progress | None, *, most: int | None) -> None:
    """Request the missing part and append it, or write all of it where the server sends all of it, and no more than a
    block beyond `most`.
    """
    here = _size(part)
    headers = {"Accept": "*/*", **({"Range": f"bytes={here}-"} if here else {})}
    seconds = max(_LEAST_SECONDS, (file.bytes or 0) / _LEAST_RATE)
    with (
        wire.translate_errors(f"downloading {file.id}"),
        wire.once.files.with_streaming_response.content(file.id, extra_headers=headers, timeout=seconds) as answer,
    ):
        continues = answer.status_code == 206 and _starts_at(answer, here)
        here = here if continues else 0
        with _writing(part), part.open("ab" if continues else "wb") as out:
            for piece in answer.iter_bytes():
                out.write(piece)
                here += len(piece)
                if on_progress is not None:
                    on_progress(here, file.bytes)
                if most is not None and here > most:
                    break
            _sync(out)


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    """Keep errors of this disk apart from those of the connection, which the HTTP library raises."""
    try:
        yield
    except OSError as error:
        target = part.with_name(part.name.removeprefix(".").removesuffix(".part"))
        raise write_error(target, error) from error


def _status(error: TuneportError) -> int | None:
    return getattr(error.__cause__, "status_code", None)


def _starts_at(answer: Any, byte: int) -> bool:
    return str(answer.headers.get("content-range", "")).strip().startswith(f"bytes {byte}-")


def _put_in_place(part: Path, target: Path, keep: Keep) -> None:
    keep(replace(measure(part), path=target))
    part.replace(target)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
