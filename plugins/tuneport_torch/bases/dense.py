"""Dense copies of `.gguf` models in home's cache: unpacked once, loaded many times.

A copy is a folder named after the hash of the file's complete content, the type of its numbers and the version of the
code that unpacked it. It appears by one rename, and its checksums are compared before it is used.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import xxhash

from tuneport.errors import TuneportError
from tuneport.plugin import home
from tuneport_torch.bases.files import JSON_BYTES, open_regular, read_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_BYTES = 20 * 2**30
"""What all copies may take together. The least recently used are removed first."""

WORTH_BYTES = 4 * 2**20
"""The smallest weights that are worth a copy. Smaller models are unpacked in a moment."""

_log = logging.getLogger("tuneport")
_RECORD = "copy.json"  # written last
_VERSION = 1  # raise it when copies are made differently
_FREE_BYTES = 2 * 2**30  # left free on the disk, for jobs and their checkpoints
_ABANDONED_SECONDS = 3600.0
_NEW = ".new-"


class _Record(msgspec.Struct):
    """The size and the XXH3 checksum of each file of a copy, by file name."""

    files: dict[str, tuple[int, str]]


class DenseCopy:
    """The copy of one file, which may not exist yet. `dtype` is the type of its numbers."""

    def __init__(self, path: Path, dtype: str) -> None:
        with open_regular(path) as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        made_by = f"{version('transformers')}.{_VERSION}"
        self.folder = home("cache", "dense") / f"{content}.{dtype}.{made_by}"

    def is_intact(self) -> bool:
        """Whether the copy exists with all its bytes. A damaged one is removed."""
        try:
            record = msgspec.json.decode(read_bytes(self.folder / _RECORD, JSON_BYTES), type=_Record)
            intact = all(_checksum(self.folder / name) == known for name, known in record.files.items())
            if intact:
                os.utime(self.folder / _RECORD)
        except FileNotFoundError:
            intact = False
        except (OSError, msgspec.MsgspecError, TypeError):
            intact = False
        if not intact:
            self.remove()
        return intact

    def remove(self) -> None:
        """Delete the copy. A process that has it open keeps its files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def keep(self, model: PreTrainedModel, write: Callable[[Path], None]) -> None:
        """Let `write` put the model into a new folder and make that the copy. If this fails, for example because the
        disk is full, log a warning and leave nothing behind.
        """
        size = sum({id(weight): weight.nbytes for weight in model.parameters()}.values())
        if not WORTH_BYTES <= size <= MOST_BYTES:
            return
        place = self.folder.parent
        try:
            _make_room(place, size)
            free = shutil.disk_usage(place).free
            if free < size + _FREE_BYTES:
                raise OSError(f"only {free / 1e9:.1f} GB are free")
            with tempfile.TemporaryDirectory(prefix=_NEW, dir=place, ignore_cleanup_errors=True) as scratch:
                made = Path(scratch) / "copy"
                made.mkdir(mode=0o700)
                write(made)
                record = _Record({file.name: _checksum(file) for file in made.iterdir()})
                (made / _RECORD).write_bytes(msgspec.json.encode(record))
                if not self.folder.exists():  # otherwise another process was first
                    made.rename(self.folder)
        except (TuneportError, KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:  # noqa: BLE001 - safetensors has its own errors, and a cache is no reason to fail
            _log.warning(
                "The unpacked copy of this model could not be kept in %s (%s), so it is unpacked each time. "
                "Free some space on that disk: tuneport prune",
                place,
                error,
            )


def _checksum(path: Path) -> tuple[int, str]:
    digest, size = xxhash.xxh3_128(), 0
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def _make_room(place: Path, size: int) -> None:
    """Remove the least recently used copies until another of `size` bytes is within MOST_BYTES."""
    for scratch in place.glob(f"{_NEW}*"):  # of a process that was killed
        if time.time() - scratch.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(scratch, ignore_errors=True)
    copies = sorted(_copies(place))
    left = size + sum(taken for _, taken, _ in copies)
    for _, taken, folder in copies:
        if left <= MOST_BYTES:
            return
        shutil.rmtree(folder, ignore_errors=True)
        left -= taken


def _copies(place: Path) -> Iterator[tuple[float, int, Path]]:
    """When each copy was last used, its size in bytes, and its folder."""
    for record in place.glob(f"*/{_RECORD}"):
        try:
            taken = sum(file.stat().st_size for file in record.parent.iterdir())
            yield record.stat().st_mtime, taken, record.parent
        except FileNotFoundError:  # another process has just removed it
            continue
