"""Where rows come from: a file on disk, or what could be read only once, kept aside so that it can be read again."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import sys
import tempfile
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from tuneport.dataset.read.encodings import Transcoding
from tuneport.dataset.read.sniff import HEAD, SHEETS, Reading, Said, look
from tuneport.errors import DataError, UsageError
from tuneport.files import open_regular
from tuneport.homefolder import home, local_path, near_files

ROW_BYTES = 32 << 20
"""A row of more bytes than this is refused."""
MAX_EXPANSION = 200
"""How many times its size a compressed file may expand to; zlib's own limit is about 1,030."""
MIN_EXPANDED_BYTES = 64 << 20
"""A compressed file may always expand to this."""
MAX_EXPANDED_BYTES = 256 << 30

_MEMORY = 8 << 20
_PIPE_SECONDS = 10.0
_CURE = "Check the name and the rights. Rows themselves are given as a list, or on standard input with `-`."
_NAME_SHOWN = 200  # characters: who gives rows where a name belongs need not read them all again


@dataclass(frozen=True)
class Source:
    """Bytes that can be read again and again: `path`, or `held` in memory; `name` is what findings call it.

    `rows` says that lines are counted as rows of the thing that was given, since it had no lines.
    """

    name: str
    format: str
    path: Path | None = None
    held: bytes = b""
    compressed: bool = False
    encoding: str | None = None
    sheet: str | None = None
    notes: tuple[Said, ...] = ()
    problem: Said | None = None
    """Why no row can be read."""
    stamp: tuple[int, int, int] | None = None
    spool: Spool | None = field(default=None, repr=False)

    def open(self) -> BinaryIO:
        """The bytes from the start, expanded; raises DataError when the file is another than it was."""
        if self.path is None:
            return io.BytesIO(self.held)
        try:
            file = open_regular(self.path)
        except OSError as error:
            raise DataError(f"{self.name} cannot be read: {error.strerror}.", remedy="Put the file back.") from error
        if _stamp(os.fstat(file.fileno())) != self.stamp:
            file.close()
            raise self.changed()
        stream = cast("BinaryIO", _Expanding(file)) if self.compressed else file
        return cast("BinaryIO", Transcoding(stream, self.encoding)) if self.encoding is not None else stream

    def changed(self) -> DataError:
        """The error of a file that is no longer what it was when the dataset was made."""
        return DataError(
            f"{self.name} has changed since it was loaded, so its rows are no longer those that were checked.",
            remedy="Load it again: Dataset.load(…).",
        )

    def verify(self, file: BinaryIO) -> None:
        """Raise DataError if the file that was read has changed meanwhile; `file` is what `open` gave."""
        if (
            self.path is not None
            and not self.compressed
            and self.encoding is None
            and _stamp(os.fstat(file.fileno())) != self.stamp
        ):
            raise self.changed()

    @property
    def splittable(self) -> bool:
        """Whether several processes can read parts of it by their places."""
        plain = not self.compressed and self.encoding is None and self.problem is None
        return self.path is not None and plain and self.format == "jsonl"


class ExpansionError(Exception):
    """A compressed file that expands too much, or is broken (`code`)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def refuse_expansion(size: int, expanded: int) -> None:
    """Raise ExpansionError where a compressed file of `size` bytes has become more than an honest one would."""
    if expanded > min(MAX_EXPANDED_BYTES, max(size * MAX_EXPANSION, MIN_EXPANDED_BYTES)):
        raise ExpansionError(
            "expands-too-much", f"{size:,} bytes have become more than {expanded:,}, and there is no end yet."
        )


class _Expanding(io.RawIOBase):
    """A gzip file that stops where no honest file goes on."""

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


class Spool:
    """A file in home that is removed with the last dataset that reads it."""

    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(dir=home("spool"), prefix="rows-", suffix=".jsonl")
        self.path = Path(name)
        self.file = os.fdopen(handle, "wb")
        weakref.finalize(self, self.path.unlink, missing_ok=True)


def of_path(source: str | os.PathLike[str], how: Reading) -> Source:
    """A file on disk; its format by suffix, else by its first bytes."""
    name = str(source)
    path = local_path(name)
    try:
        path = path.absolute()
        found = path.stat()
    except (OSError, ValueError) as error:  # also a zero byte in it
        raise _unreadable(name, error) from error
    if path.is_dir():
        raise UsageError(f"{name} is a folder.", remedy=_cure_of_folder(path, name.rstrip("/")))
    if stat.S_ISBLK(found.st_mode) or (stat.S_ISCHR(found.st_mode) and not _ends(path)):
        raise UsageError(f"{name} is a device.", remedy="Name a file.")
    try:
        with _open_pipe(path, name) if stat.S_ISFIFO(found.st_mode) else path.open("rb") as file:
            if not path.is_file():  # a pipe, such as /dev/stdin or <(…)
                return of_stream(file, name, how)
            head, compressed = _head(file)
    except OSError as error:
        raise _unreadable(name, error) from error
    return _looked_at(name, how, path, (head, compressed), found)


def _cure_of_folder(path: Path, name: str) -> str:
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():  # as save_to_disk writes it
        return f"A dataset of Hugging Face is loaded in Python: Dataset.load(datasets.load_from_disk({name!r}))"
    return f"Name a file in it, such as {name}/train.jsonl."


def _ends(device: Path) -> bool:
    """Whether reading a character device comes to an end: a terminal's lines do, and nothing at all."""
    with device.open("rb", buffering=0) as file:
        return file.isatty() or device.samefile(os.devnull)


def _open_pipe(path: Path, name: str) -> BinaryIO:
    """Open a pipe once something writes to it. Raises UsageError when nothing comes to write."""
    opened: list[BinaryIO] = []
    opening = threading.Thread(target=lambda: opened.append(path.open("rb")), daemon=True)
    opening.start()
    opening.join(_PIPE_SECONDS)
    if opening.is_alive():
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))  # a writer, so that the thread goes on
        opening.join()
        opened.pop().close()
        raise UsageError(f"{name} is a pipe that no program writes to.", remedy="Start the program that writes to it.")
    return opened.pop()


def _looked_at(
    name: str, how: Reading, path: Path, start: tuple[bytes, bool], found: os.stat_result, spool: Spool | None = None
) -> Source:
    """The source of a file whose first bytes were read."""
    head, compressed = start
    seen = look(how, Path() if spool else path, head, whole=len(head) < HEAD)
    if how.sheet is not None and seen.format not in SHEETS:
        raise UsageError(f"{name} has no sheets: it is {seen.format}.", remedy="Leave the sheet out.")
    return Source(
        name=name,
        format=seen.format,
        path=path,
        compressed=compressed,
        encoding=seen.encoding if seen.format not in ("parquet", *SHEETS) else None,
        sheet=how.sheet,
        notes=seen.notes,
        problem=seen.problem,
        stamp=_stamp(found),
        spool=spool,
    )


def _unreadable(name: str, error: Exception) -> UsageError:
    said = f"{name[:_NAME_SHOWN]}…" if len(name) > _NAME_SHOWN else name
    if isinstance(error, FileNotFoundError):
        return missing_file(name)
    why = error.strerror if isinstance(error, OSError) else error
    return UsageError(
        f"{said} cannot be read: {why}.",
        remedy=_CURE,
    )


def missing_file(name: str) -> UsageError:
    """What is said of a file that is not there."""
    said = f"{name[:_NAME_SHOWN]}…" if len(name) > _NAME_SHOWN else name
    return UsageError(f"There is no file {said}.", remedy=f"{near_files(name)}{_CURE}")


def of_stream(stream: BinaryIO, name: str, how: Reading) -> Source:
    """What can be read once only, such as standard input: copied to home first."""
    spool = Spool()
    with spool.file as file:
        shutil.copyfileobj(stream, file, 1 << 20)
    with spool.path.open("rb") as copy:
        start = _head(copy)
    return _looked_at(name, how, spool.path, start, spool.path.stat(), spool)


Write = Callable[[Any, dict[str, str]], bytes]


def of_rows(rows: Iterable[Any], name: str, line: Write, kinds: dict[str, str]) -> Source:
    """Python objects, each written by `line` as one JSON line: in memory while they are few, in home beyond that.

    `kinds` has what columns hold that is read as text, by column, once the rows were read.
    """
    held, spool = io.BytesIO(), None
    out: BinaryIO = held
    for number, row in enumerate(rows, 1):
        try:
            out.write(line(row, kinds) + b"\n")
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(
                f"Row {number} cannot be written as JSON: {error}.",
                remedy="Give rows as dictionaries of texts, numbers and lists.",
            ) from error
        if spool is None and held.tell() > _MEMORY:
            spool = Spool()
            out = spool.file
            out.write(held.getvalue())
            held = io.BytesIO()
    notes = tuple(Said("read-as-text", f"{column} holds {kind}.", column) for column, kind in kinds.items())
    if spool is None:
        return Source(name=name, format="jsonl", held=held.getvalue(), notes=notes)
    spool.file.close()
    stamp = _stamp(spool.path.stat())
    return Source(name=name, format="jsonl", path=spool.path, stamp=stamp, spool=spool, notes=notes)


def standard_input(how: Reading) -> Source:
    """Standard input, to its end."""
    if sys.stdin.isatty():
        raise UsageError("Standard input is a keyboard.", remedy="Pipe a file into it: cat FILE | tuneport check -")
    return of_stream(sys.stdin.buffer, "-", how)


def _head(file: BinaryIO) -> tuple[bytes, bool]:
    """The first bytes, expanded, and whether they were compressed."""
    head = file.read(HEAD)
    if not head.startswith(b"\x1f\x8b"):
        return head, False
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD), True
    except zlib.error:
        return b"", True  # reading it will say what is wrong


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino


def blocks(stream: BinaryIO, size: int = 1 << 20) -> Iterator[tuple[bytes, int]]:
    """Whole lines, about `size` bytes at a time; a line beyond ROW_BYTES comes as `(b"", its length)`.

    Lines end at a line feed alone: U+2028 and its like may stand inside texts.
    """
    parts: list[bytes] = []
    held = 0
    while data := stream.read(size):
        cut = data.rfind(b"\n") + 1
        if not cut:
            held += len(data)
            if held <= ROW_BYTES:
                parts.append(data)
            else:
                parts.clear()
            continue
        if held > ROW_BYTES or held + data.find(b"\n") > ROW_BYTES:
            start = data.find(b"\n") + 1
            yield b"", held + start
            whole = data[start:cut]
        else:
            whole = b"".join((*parts, data[:cut]))
        if whole:
            yield whole, 0
        parts = [data[cut:]] if cut < len(data) else []
        held = len(data) - cut
    if held > ROW_BYTES:
        yield b"", held
    elif held:
        yield b"".join(parts), 0
