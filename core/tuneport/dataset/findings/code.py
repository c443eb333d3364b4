"""A kind of finding that a check can make."""

from __future__ import annotations

from dataclasses import dataclass

from tuneport.dataset.findings.diagnostic import Severity


@dataclass(frozen=True, slots=True)
class Code:
    """A stable name for a kind of finding. Errors reject the row (or the file); warnings and notes do not."""

    name: str
    severity: Severity
    meaning: str
    remedy: str
