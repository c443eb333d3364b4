"""The single pass over a source, in memory that does not grow with its rows."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from hashlib import sha256

from tuneport.dataset.check.repeats import Records
from tuneport.dataset.findings.findings import Findings
from tuneport.dataset.read.source import Source
from tuneport.dataset.scan.batches import read_batches
from tuneport.dataset.scan.fold import Limits, fold
from tuneport.dataset.scan.outcome import Outcome
from tuneport.dataset.scan.part import DIGEST, Part
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.stats import Tally
from tuneport.homefolder import home

_INDEX_ROWS = 1024  # read at a time
_INDEX_MEMORY = 8 << 20  # for each of two


class Scan:
    """All parts of a source together. `records` and the index are on disk once there are many rows."""

    def __init__(self) -> None:
        self.lines = self.read = self.used = 0
        self.findings = Findings()
        self.tally = Tally()
        self.records = Records()
        self.kept = bytearray()
        """One byte for each row that passes its own checks: 1 if the limits accept it too."""
        self._sha = sha256()
        self._texts, self._digests = _open_spool(), _open_spool()
        self.size = 0
        """Bytes of the used rows as canonical lines."""

    @property
    def rejected(self) -> int:
        """Rows that were read but are not used."""
        return self.read - self.used

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 over the used rows' content digests, in order."""
        return self._sha.hexdigest()

    def add(self, part: Part) -> None:
        """Add the part that follows."""
        self.read += part.read
        self.used += part.used
        self.size += part.size
        self.findings.merge(part.findings, self.lines)
        self.tally.merge(part.tally)
        self._sha.update(part.digests)
        self.kept += part.kept
        self.records.add_many(part.keys, array("Q", [place + self.lines for place in part.places]))
        self._texts.write(part.keys[1::3])
        self._digests.write(part.digests)
        self.lines += part.lines

    def text_keys(self) -> array[int]:
        """For each used row, in order, the key of its normalized text."""
        self._texts.seek(0)
        return array("Q", self._texts.read())

    def index(self) -> Iterator[tuple[int, bytes]]:
        """For each used row, in order, the key of its normalized text and its content digest."""
        self._texts.seek(0)
        self._digests.seek(0)
        while texts := self._texts.read(_INDEX_ROWS * 8):
            digests = self._digests.read(len(texts) // 8 * DIGEST)
            for place, text in enumerate(array("Q", texts)):
                yield text, digests[place * DIGEST : (place + 1) * DIGEST]


def _open_spool() -> tempfile.SpooledTemporaryFile[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=_INDEX_MEMORY, dir=str(home("cache", "spill")))


def scan(source: Source, recipe: Recipe | None, limits: Limits | None = None, keep: bytes | None = None) -> Scan:
    """Read a source from start to end. `keep` has a byte for each row that passes its own checks; 0 leaves it out."""
    found = Scan()
    selection = Selection(keep)
    in_bulk = limits is None and keep is None
    for batch in read_batches(source, recipe):
        found.add(batch.part() if in_bulk else fold(selection.select(batch), batch.lines, limits))
    return found


class Selection:
    """Selects the rows of a view of a dataset, or all rows without one."""

    def __init__(self, keep: bytes | None) -> None:
        self.keep = keep
        self.position = 0

    def select(self, batch: Iterable[Outcome]) -> Iterator[Outcome]:
        """The outcomes in the view."""
        if self.keep is None:
            yield from batch
            return
        for outcome in batch:
            if outcome.is_accepted:
                if self.keep[self.position]:
                    yield outcome
                self.position += 1
