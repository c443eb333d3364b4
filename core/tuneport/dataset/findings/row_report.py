"""What is found in one row, while it is read and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from tuneport.dataset.findings.codes import CODES
from tuneport.dataset.findings.diagnostic import Severity

Place = Callable[[str, int], str]
"""The JSON pointer, into the row as it is in the file, of a turn's text: by the example's part (messages, prompt,
chosen, rejected, completion) and the turn's index in it."""


class Finding(msgspec.Struct, frozen=True, array_like=True):
    """A compact diagnostic: it does not repeat what the registry of codes says."""

    code: str
    message: str
    line: int | None = None
    pointer: str | None = None
    severity: Severity | None = None
    remedy: str | None = None

    @property
    def level(self) -> Severity:
        """The finding's own severity, or that of its code."""
        return self.severity or CODES[self.code].severity


_NO_ORIGINS: dict[str, list[int]] = {}


def place_in_messages(part: str, index: int) -> str:
    """The place of a turn in a row that has the usual form."""
    return f"/{part}/{index}/content"


class RowReport:
    """Collects the findings of one row; `failed` once one of them is an error."""

    __slots__ = ("failed", "found", "line", "origins", "place")

    def __init__(self, line: int | None) -> None:
        self.line = line
        self.found: list[Finding] = []
        self.failed = False
        self.place: Place = place_in_messages
        self.origins: dict[str, list[int]] = _NO_ORIGINS
        """For a list of turns, by its pointer: each turn's index in the file, where one turn was read as several."""

    def turn_pointer(self, pointer: str, index: int) -> str:
        """The pointer, into the file's row, of a turn in the list at `pointer`."""
        origins = self.origins.get(pointer)
        return f"{pointer}/{origins[index] if origins and index < len(origins) else index}"

    def move_turns(self, part: str, origins: Sequence[int], before: int = 0) -> None:
        """Correct `place` after some turns of a part became several: `origins` has the earlier index of each turn.

        `before` turns at the start of `origins` belong to another part of the row.
        """
        earlier = self.place

        def place(name: str, index: int) -> str:
            moved = name == part and index + before < len(origins)
            return earlier(name, origins[index + before] - before if moved else index)

        self.place = place

    def add(self, code: str, message: str, pointer: str | None = None, remedy: str | None = None) -> None:
        """Add a finding at a JSON pointer into the row."""
        self.note(Finding(code, message, self.line, pointer, None, remedy))

    def replace(self, other: RowReport) -> None:
        """Take over another report of the same row."""
        self.found, self.failed, self.place = other.found, other.failed, other.place

    def note(self, finding: Finding) -> None:
        """Add a finding as it is."""
        self.found.append(finding)
        self.failed = self.failed or finding.level == "error"
