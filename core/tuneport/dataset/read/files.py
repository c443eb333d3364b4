"""Files, pipes and standard input to sources."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import threading
import zlib
from pathlib import Path
from typing import BinaryIO

from tuneport.dataset.read.sniff import HEAD_BYTES, SHEETS, ReadOptions, sniff
from tuneport.dataset.read.source import Source, Spool, stamp_of
from tuneport.errors import UsageError
from tuneport.homefolder import local_path, near_files

_PIPE_SECONDS = 10.0
_REMEDY = "Check the name and the permissions. To pass rows themselves, use a list, or standard input with `-`."
_NAME_SHOWN = 200  # characters: data passed as a name by mistake need not be shown in full


def open_file(name: str | os.PathLike[str], options: ReadOptions) -> Source:
    """A file on disk. Its format is detected from its suffix, or else from its first bytes. Raises UsageError."""
    name = str(name)
    path = local_path(name)
    try:
        path = path.absolute()
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise _unreadable_error(name, error) from error
    if path.is_dir():
        raise UsageError(f"{name} is a folder.", remedy=_folder_remedy(path, name.rstrip("/")))
    if stat.S_ISBLK(found.st_mode) or (stat.S_ISCHR(found.st_mode) and not _has_end(path)):
        raise UsageError(f"{name} is a device.", remedy="Name a file.")
    try:
        with _open_pipe(path, name) if stat.S_ISFIFO(found.st_mode) else path.open("rb") as file:
            if not path.is_file():  # a pipe, such as /dev/stdin or <(…)
                return open_stream(file, name, options)
            head, compressed = _read_head(file)
    except OSError as error:
        raise _unreadable_error(name, error) from error
    return _make_source(name, options, path, (head, compressed), found)


def open_stream(stream: BinaryIO, name: str, options: ReadOptions) -> Source:
    """A stream that can be read only once, such as standard input: it is copied to home first."""
    spool = Spool()
    with spool.file as file:
        shutil.copyfileobj(stream, file, 1 << 20)
    with spool.path.open("rb") as copy:
        start = _read_head(copy)
    return _make_source(name, options, spool.path, start, spool.path.stat(), spool)


def open_standard_input(options: ReadOptions) -> Source:
    """Standard input, to its end. Raises UsageError for a terminal."""
    if sys.stdin.isatty():
        raise UsageError("Standard input is a terminal.", remedy="Pipe a file into it: cat FILE | tuneport check -")
    return open_stream(sys.stdin.buffer, "-", options)


def missing_file_error(name: str) -> UsageError:
    """The error for a file that does not exist, with similar names."""
    return UsageError(f"There is no file {_shorten(name)}.", remedy=f"{near_files(name)}{_REMEDY}")


def _unreadable_error(name: str, error: Exception) -> UsageError:
    if isinstance(error, FileNotFoundError):
        return missing_file_error(name)
    why = error.strerror if isinstance(error, OSError) else error
    return UsageError(f"{_shorten(name)} cannot be read: {why}.", remedy=_REMEDY)


def _shorten(name: str) -> str:
    return f"{name[:_NAME_SHOWN]}…" if len(name) > _NAME_SHOWN else name


def _folder_remedy(path: Path, name: str) -> str:
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():  # as save_to_disk writes it
        return f"Load a Hugging Face dataset in Python: Dataset.load(datasets.load_from_disk({name!r}))"
    return f"Name a file in it, such as {name}/train.jsonl."


def _has_end(device: Path) -> bool:
    """Whether reading a character device comes to an end: that of a terminal or of the null device does."""
    with device.open("rb", buffering=0) as file:
        return file.isatty() or device.samefile(os.devnull)


def _open_pipe(path: Path, name: str) -> BinaryIO:
    """Open a pipe once a program writes to it. Raises UsageError when none does in time."""
    opened: list[BinaryIO] = []
    opening = threading.Thread(target=lambda: opened.append(path.open("rb")), daemon=True)
    opening.start()
    opening.join(_PIPE_SECONDS)
    if opening.is_alive():
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))  # a writer, so that the thread continues
        opening.join()
        opened.pop().close()
        raise UsageError(f"{name} is a pipe that no program writes to.", remedy="Start the program that writes to it.")
    return opened.pop()


def _make_source(
    name: str,
    options: ReadOptions,
    path: Path,
    start: tuple[bytes, bool],
    found: os.stat_result,
    spool: Spool | None = None,
) -> Source:
    """The source of a file whose first bytes were read."""
    head, compressed = start
    seen = sniff(options, Path() if spool else path, head, complete=len(head) < HEAD_BYTES)
    if options.sheet is not None and seen.format not in SHEETS:
        raise UsageError(f"{name} has no sheets: its format is {seen.format}.", remedy="Leave out the sheet.")
    return Source(
        name=name,
        format=seen.format,
        path=path,
        compressed=compressed,
        encoding=seen.encoding if seen.format not in ("parquet", *SHEETS) else None,
        sheet=options.sheet,
        notes=seen.notes,
        problem=seen.problem,
        stamp=stamp_of(found),
        spool=spool,
    )


def _read_head(file: BinaryIO) -> tuple[bytes, bool]:
    """The first bytes, expanded, and whether they were compressed."""
    head = file.read(HEAD_BYTES)
    if not head.startswith(b"\x1f\x8b"):
        return head, False
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES), True
    except zlib.error:
        return b"", True  # reading the file reports what is wrong
