"""The rows of a source, all or some of them: read as a stream, and scanned once."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import compress
from pathlib import Path

from tuneport.dataset.example import Example
from tuneport.dataset.read.source import Source
from tuneport.dataset.scan.batches import read_batches
from tuneport.dataset.scan.fold import Limits
from tuneport.dataset.scan.scan import Scan, Selection, scan
from tuneport.dataset.shapes.recognize import recognize_source


class Origin:
    """What a dataset and its views share: the source, how its rows are read, and its scan."""

    def __init__(self, source: Source, columns: Mapping[str, str], system: str | None) -> None:
        self.source = source
        self.recipe, self.loose_names = recognize_source(source, columns, system)
        self.workers: int | None = None

    @cached_property
    def scan(self) -> Scan:
        """The scan of all rows."""
        if self.source.splittable:
            from tuneport.dataset.scan.workers import scan_with

            return scan_with(self.source, self.recipe, self.workers)
        return scan(self.source, self.recipe)


class Rows:
    """The rows of an origin that pass their own checks; `keep`, a byte for each, selects some of them."""

    def __init__(self, origin: Origin, keep: bytes | None = None) -> None:
        self.origin = origin
        self.keep = keep

    def __iter__(self) -> Iterator[Example]:
        selection = Selection(self.keep)
        for batch in read_batches(self.origin.source, self.origin.recipe):
            for outcome in selection.select(batch):
                if (example := outcome.accepted_example()) is not None:
                    yield example

    def lines(self) -> Iterator[bytes]:
        """The canonical line of each row; much faster than the examples."""
        place = 0
        for batch in read_batches(self.origin.source, self.origin.recipe):
            for line in batch.canonical():
                if self.keep is None or self.keep[place]:
                    yield line
                place += 1

    def __len__(self) -> int:
        return self.origin.scan.used if self.keep is None else self.keep.count(1)

    @property
    def is_counted(self) -> bool:
        """Whether the number of rows is known without reading them."""
        return self.keep is not None or "scan" in vars(self.origin)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file of the source, or none."""
        source = self.origin.source
        return (source.path,) if source.path is not None and source.spool is None else ()

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 over the SHA-256 of each row's canonical line, in order."""
        if self.keep is None:
            return self.origin.scan.fingerprint
        sha = hashlib.sha256()
        for kept, (_, digest) in zip(self.keep, self.origin.scan.index(), strict=True):
            if kept:
                sha.update(digest)
        return sha.hexdigest()

    def text_keys(self) -> array[int]:
        """For each row, in order, the key of its normalized text."""
        keys = self.origin.scan.text_keys()
        return keys if self.keep is None else array("Q", compress(keys, self.keep))

    def scan(self, limits: Limits | None = None) -> Scan:
        """A scan of these rows; cached without limits."""
        if limits is not None:
            return scan(self.origin.source, self.origin.recipe, limits, self.keep)
        return self.origin.scan if self.keep is None else self._own_scan

    @cached_property
    def _own_scan(self) -> Scan:
        return scan(self.origin.source, self.origin.recipe, None, self.keep)

    def select(self, keep: bytes | bytearray) -> Rows:
        """The rows for which `keep`, a byte for each row, is not 0."""
        if 0 not in keep:
            return self
        if self.keep is not None:
            inner = iter(keep)
            keep = bytes(kept and next(inner) for kept in self.keep)
        return Rows(self.origin, bytes(keep))
