"""A kind of finding."""

from __future__ import annotations

from dataclasses import dataclass

from tuneport.dataset.findings.diagnostic import Severity


@dataclass(frozen=True, slots=True)
class Code:
    """A stable name for a kind of finding. An error rejects the row or the file; a warning or a note does not."""

    name: str
    severity: Severity
    meaning: str
    remedy: str
