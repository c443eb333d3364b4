"""A finding about data: where it is, what it is, how severe, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tuneport.doors import public

Severity = Literal["error", "warning", "note"]


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding.

    `line` counts from 1: the line in the file, or the row in formats without lines. `pointer` is a JSON pointer into
    the row.
    """

    code: str
    severity: Severity
    message: str
    remedy: str
    file: str | None = None
    line: int | None = None
    pointer: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary with the keys of the `--json` output."""
        return {
            "file": self.file,
            "line": self.line,
            "pointer": self.pointer,
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "remedy": self.remedy,
        }

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        at = f" at {self.pointer}" if self.pointer else ""
        return f"{where or 'data'}{at}: {self.severity} {self.code}: {self.message} {self.remedy}"
