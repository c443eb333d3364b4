"""What some consecutive rows contain, ready to be combined with other parts."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from tuneport.dataset.findings.findings import Findings
from tuneport.dataset.stats import Tally

DIGEST = 32
"""Bytes of a content digest."""


@dataclass(slots=True)
class Part:
    """The content of consecutive rows.

    For each used row there is an entry in `keys` (three numbers, see `row_keys`), `digests` (32 bytes) and `places`
    (its line, counted from the part's first). `kept` has a byte for each row that passes its own checks: 1 if it is
    used.
    """

    lines: int = 0
    read: int = 0
    used: int = 0
    size: int = 0
    keys: array[int] = field(default_factory=lambda: array("Q"))
    digests: bytes = b""
    places: array[int] = field(default_factory=lambda: array("Q"))
    kept: bytearray = field(default_factory=bytearray)
    findings: Findings = field(default_factory=Findings)
    tally: Tally = field(default_factory=Tally)

    def add_used(self, keys: array[int], digests: bytes, places: Iterable[int], size: int) -> None:
        """Add rows that are used; `size` is that of their canonical lines, line ends included."""
        self.keys += keys
        self.digests += digests
        self.places.extend(places)
        self.used += len(digests) // DIGEST
        self.size += size

    def extend(self, other: Part) -> None:
        """Add the part that follows."""
        self.findings.merge(other.findings, self.lines)
        self.tally.merge(other.tally)
        self.add_used(other.keys, other.digests, [place + self.lines for place in other.places], other.size)
        self.kept += other.kept
        self.lines += other.lines
        self.read += other.read


def join_digests(lines: Sequence[bytes]) -> bytes:
    """The SHA-256 of each line, one after another."""
    return b"".join([sha256(line).digest() for line in lines])
