"""The findings of one check: all are counted, the first of each code are kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import msgspec

from tuneport.dataset.findings.codes import CODES
from tuneport.dataset.findings.diagnostic import Diagnostic, Severity
from tuneport.dataset.findings.row_report import Finding

_CONSEQUENCES = ("no-rows", "too-few-rows")  # of other errors, which are shown first

KEPT_PER_CODE = 20
"""How many findings of one code are kept with their place; the others are only counted."""


class Findings:
    """All findings of a check: `counts` by code, `severities` by severity, and the first of each code."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.severities: Counter[Severity] = Counter()
        self._kept: dict[str, list[Finding]] = {}

    def add(self, code: str, message: str, line: int | None = None, pointer: str | None = None, **more: str) -> None:
        """Add one finding; `more` are `severity` and `remedy` where they differ from the code's own."""
        self.note(msgspec.convert([code, message, line, pointer, more.get("severity"), more.get("remedy")], Finding))

    def note(self, finding: Finding, times: int = 1) -> None:
        """Count a finding `times` times, and keep it if it is among the first of its code."""
        self.counts[finding.code] += times
        self.severities[finding.level] += times
        self._keep(finding)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Add several."""
        for finding in findings:
            self.note(finding)

    def state(self) -> tuple[dict[str, int], dict[Severity, int], list[Finding]]:
        """Everything, to be sent to another process; see `from_state`."""
        return dict(self.counts), dict(self.severities), self.kept()

    @classmethod
    def from_state(cls, counts: dict[str, int], severities: dict[Severity, int], kept: Iterable[Finding]) -> Findings:
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
        """Add the findings of later rows, whose line numbers start after `lines` lines."""
        self.counts.update(other.counts)
        self.severities.update(other.severities)
        for finding in other.kept():
            moved = msgspec.structs.replace(finding, line=finding.line + lines) if finding.line and lines else finding
            self._keep(moved)

    def _keep(self, finding: Finding) -> None:
        kept = self._kept.setdefault(finding.code, [])
        kept.append(finding)
        if len(kept) > 2 * KEPT_PER_CODE:  # checks may find things out of order: the earliest lines stay
            kept.sort(key=_order)
            del kept[KEPT_PER_CODE:]

    def kept(self) -> list[Finding]:
        """The findings that were kept, by line; those that follow from others come last."""
        first = (finding for kept in self._kept.values() for finding in sorted(kept, key=_order)[:KEPT_PER_CODE])
        return sorted(first, key=_order)

    def diagnostics(self, file: str | None) -> list[Diagnostic]:
        """The kept findings as diagnostics of that file, by line."""
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


def _order(finding: Finding) -> float:
    return math.inf if finding.code in _CONSEQUENCES else finding.line or 0
