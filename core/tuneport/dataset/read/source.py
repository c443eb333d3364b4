"""Where rows come from: bytes that can be read again and again, on disk or in memory."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import weakref
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from tuneport.dataset.read.encodings import Transcoding
from tuneport.dataset.read.sniff import FileNote
from tuneport.errors import DataError
from tuneport.files import open_regular
from tuneport.homefolder import home

MAX_EXPANSION = 200
"""How many times its size a compressed file may expand to; zlib's own limit is about 1,030."""
MIN_EXPANDED_BYTES = 64 << 20
"""A compressed file may always expand to this."""
MAX_EXPANDED_BYTES = 256 << 30

Stamp = tuple[int, int, int]
"""A file's size, time of change and inode: another stamp is another content."""


@dataclass(frozen=True)
class Source:
    """Bytes that can be read again and again: a file at `path`, or `held` in memory. Findings call it `name`."""

    name: str
    format: str
    path: Path | None = None
    held: bytes = b""
    compressed: bool = False
    encoding: str | None = None
    sheet: str | None = None
    notes: tuple[FileNote, ...] = ()
    problem: FileNote | None = None
    """Why no row can be read."""
    stamp: Stamp | None = None
    spool: Spool | None = field(default=None, repr=False)
    """The temporary file that `path` is, removed together with the last dataset that reads it."""

    def open(self) -> BinaryIO:
        """The bytes from the start, expanded and in UTF-8; raises DataError when the file has changed."""
        if self.path is None:
            return io.BytesIO(self.held)
        try:
            file = open_regular(self.path)
        except OSError as error:
            raise DataError(f"{self.name} cannot be read: {error.strerror}.", remedy="Restore the file.") from error
        if stamp_of(os.fstat(file.fileno())) != self.stamp:
            file.close()
            raise self.changed_error()
        stream = cast("BinaryIO", _Expanding(file)) if self.compressed else file
        return cast("BinaryIO", Transcoding(stream, self.encoding)) if self.encoding is not None else stream

    def changed_error(self) -> DataError:
        """The error for a file that has changed since the dataset was made."""
        return DataError(
            f"{self.name} has changed since it was loaded, so its rows are no longer those that were checked.",
            remedy="Load it again: Dataset.load(…).",
        )

    def verify(self, file: BinaryIO) -> None:
        """Raise DataError if the file changed while it was read; `file` is what `open` returned."""
        if (
            self.path is not None
            and not self.compressed
            and self.encoding is None
            and stamp_of(os.fstat(file.fileno())) != self.stamp
        ):
            raise self.changed_error()

    @property
    def splittable(self) -> bool:
        """Whether several processes can read parts of it by byte ranges."""
        plain = not self.compressed and self.encoding is None and self.problem is None
        return self.path is not None and plain and self.format == "jsonl"


def stamp_of(found: os.stat_result) -> Stamp:
    """The stamp of a file."""
    return found.st_size, found.st_mtime_ns, found.st_ino


class Spool:
    """A temporary file in home, removed together with the last dataset that reads it."""

    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(dir=home("spool"), prefix="rows-", suffix=".jsonl")
        self.path = Path(name)
        self.file = os.fdopen(handle, "wb")
        weakref.finalize(self, self.path.unlink, missing_ok=True)


class ExpansionError(Exception):
    """A compressed file that expands too much or is broken (`code`)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def refuse_expansion(size: int, expanded: int) -> None:
    """Raise ExpansionError where a compressed file of `size` bytes has become larger than data normally does."""
    if expanded > min(MAX_EXPANDED_BYTES, max(size * MAX_EXPANSION, MIN_EXPANDED_BYTES)):
        raise ExpansionError(
            "expands-too-much", f"{size:,} bytes expanded to more than {expanded:,}, and the end is not reached."
        )


class _Expanding(io.RawIOBase):
    """A gzip file that stops when it expands too much."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._gzip = gzip.GzipFile(fileobj=file)
        self._read = 0

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._gzip.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise ExpansionError(
                "broken-gzip", f"The compressed data is broken after {self._read:,} bytes: {error}."
            ) from error
        self._read += len(data)
        refuse_expansion(self._size, self._read)
        return data

    def close(self) -> None:
        self._gzip.close()
        self._file.close()
        super().close()
