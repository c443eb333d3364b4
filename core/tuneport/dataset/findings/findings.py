"""The findings of one check: counted without end, kept up to a bound."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from tuneport.dataset.findings.codes import CODES
from tuneport.dataset.findings.diagnostic import Diagnostic, Severity

_FOLLOWING = ("no-rows", "too-few-rows")  # from other errors, which are told first

KEPT_PER_CODE = 20
"""How many findings of one code are kept with their place; the others are counted."""


class Finding(msgspec.Struct, frozen=True, array_like=True):
    """A diagnostic on its way: what the code's registry entry says by itself is not repeated."""

    code: str
    message: str
    line: int | None = None
    pointer: str | None = None
    severity: Severity | None = None
    remedy: str | None = None

    @property
    def level(self) -> Severity:
        """How bad it is: as the finding says, else as its code does."""
        return self.severity or CODES[self.code].severity


_NO_ORIGINS: dict[str, list[int]] = {}


class RowReport:
    """Collects what is found in one row; `failed` once one of it is an error.

    `place` gives the JSON pointer, into the row as it stands in the file, of the text of a turn: its part (messages,
    prompt, chosen, rejected, completion) and its index.
    """

    __slots__ = ("failed", "found", "line", "origins", "place")

    def __init__(self, line: int | None) -> None:
        self.line = line
        self.found: list[Finding] = []
        self.failed = False
        self.place: Callable[[str, int], str] = _place_in_messages
        self.origins: dict[str, list[int]] = _NO_ORIGINS
        """Of a list of turns, by its pointer: where each stood before some were read as several."""

    def turn(self, pointer: str, index: int) -> str:
        """The pointer of a turn in the list at `pointer`, as it stands in the file."""
        origins = self.origins.get(pointer)
        return f"{pointer}/{origins[index] if origins and index < len(origins) else index}"

    def add(self, code: str, message: str, pointer: str | None = None, remedy: str | None = None) -> None:
        """Note a finding at a JSON pointer into the row."""
        self.note(Finding(code, message, self.line, pointer, None, remedy))

    def note(self, finding: Finding) -> None:
        """Note a finding as it is."""
        self.found.append(finding)
        self.failed = self.failed or finding.level == "error"


def _place_in_messages(part: str, index: int) -> str:
    return f"/{part}/{index}/content"


class Findings:
    """All findings of a check: `counts` by code, `severities` by severity, and the first of each code."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.severities: Counter[Severity] = Counter()
        self._kept: dict[str, list[Finding]] = {}

    def add(self, code: str, message: str, line: int | None = None, pointer: str | None = None, **more: str) -> None:
        """Note one finding; `more` are `severity` and `remedy` where they differ from the code's own."""
        self.note(msgspec.convert([code, message, line, pointer, more.get("severity"), more.get("remedy")], Finding))

    def note(self, finding: Finding, times: int = 1) -> None:
        """Count a finding `times` times and keep it if it is among the first of its code."""
        self.counts[finding.code] += times
        self.severities[finding.level] += times
        self._keep(finding)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Note several."""
        for finding in findings:
            self.note(finding)

    def state(self) -> tuple[dict[str, int], dict[Severity, int], list[Finding]]:
        """All of it, to be sent to another process; see `of_state`."""
        return dict(self.counts), dict(self.severities), self.kept()

    @classmethod
    def of_state(cls, counts: dict[str, int], severities: dict[Severity, int], kept: Iterable[Finding]) -> Findings:
        """The findings of a `state`."""
        found = cls()
        found.counts.update(counts)
        found.severities.update(severities)
        for finding in kept:
            found._keep(finding)
        return found

    def copy(self) -> Findings:
        """The same findings, to add others to."""
        other = Findings()
        other.merge(self)
        return other

    def merge(self, other: Findings, lines: int = 0) -> None:
        """Note what `other` noted of rows that follow, whose lines are counted from `lines` on."""
        self.counts.update(other.counts)
        self.severities.update(other.severities)
        for finding in other.kept():
            moved = msgspec.structs.replace(finding, line=finding.line + lines) if finding.line and lines else finding
            self._keep(moved)

    def _keep(self, finding: Finding) -> None:
        kept = self._kept.setdefault(finding.code, [])
        kept.append(finding)
        if len(kept) > 2 * KEPT_PER_CODE:  # analyses find things out of order: the earliest lines stay
            kept.sort(key=_place)
            del kept[KEPT_PER_CODE:]

    def kept(self) -> list[Finding]:
        """The findings that were kept, by line; last those that the others lead to."""
        first = (finding for kept in self._kept.values() for finding in sorted(kept, key=_place)[:KEPT_PER_CODE])
        return sorted(first, key=_place)

    def diagnostics(self, file: str | None) -> list[Diagnostic]:
        """What was kept, as diagnostics of that file, by line."""
        return [
            Diagnostic(
                code=finding.code,
                severity=finding.level,
                message=finding.message,
                remedy=finding.remedy or CODES[finding.code].remedy,
                file=file,
                line=finding.line,
                pointer=finding.pointer,
            )
            for finding in self.kept()
        ]


def _place(finding: Finding) -> float:
    return math.inf if finding.code in _FOLLOWING else finding.line or 0
