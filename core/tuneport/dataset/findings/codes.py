"""All codes of findings, each with its severity, its meaning and a remedy."""

from __future__ import annotations

from tuneport.dataset.findings.code import Code
from tuneport.dataset.findings.file_codes import FILE, SHAPE, TEXT
from tuneport.dataset.findings.row_codes import PREFERENCE, ROWS, RULES, TOOLS, TURNS


def _register(*codes: Code) -> dict[str, Code]:
    named = {code.name: code for code in codes}
    assert len(named) == len(codes), "two codes have the same name"
    return named


CODES: dict[str, Code] = _register(*FILE, *TEXT, *SHAPE, *TURNS, *TOOLS, *PREFERENCE, *RULES, *ROWS)
"""All codes by name. A backend's `check_row` may use other codes too."""
