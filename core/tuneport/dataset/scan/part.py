"""What a pass over some rows found, ready to be put together with what others found."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from tuneport.dataset.findings.findings import Findings
from tuneport.dataset.stats import Tally

DIGEST = 32


@dataclass(slots=True)
class Part:
    """What rows that follow each other hold.

    For each row used there is an entry in `keys` (three numbers, see `row_keys`), `digests` (32 bytes) and `places`
    (its line, counted from the part's first). `kept` has a byte for each row that is sound: 1 if it is used.
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

    def extend(self, other: Part) -> None:
        """Add what rows that follow hold."""
        self.findings.merge(other.findings, self.lines)
        self.tally.merge(other.tally)
        self.places.extend([place + self.lines for place in other.places])
        self.keys += other.keys
        self.digests += other.digests
        self.kept += other.kept
        self.lines += other.lines
        self.read += other.read
        self.used += other.used
        self.size += other.size


def digests_of(lines: Sequence[bytes]) -> bytes:
    """The SHA-256 of each line, one after the other."""
    return b"".join([sha256(line).digest() for line in lines])
