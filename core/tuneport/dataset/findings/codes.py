"""Every finding that a check can make: its code, how bad it is, what it means and what to do about it."""

from __future__ import annotations

from tuneport.dataset.findings.code import Code
from tuneport.dataset.findings.file_codes import FILE, SHAPE, TEXT
from tuneport.dataset.findings.row_codes import PREFERENCE, PROFILE, ROWS, TOOLS, TURNS


def _registry(*codes: Code) -> dict[str, Code]:
    named = {code.name: code for code in codes}
    assert len(named) == len(codes), "two codes of one name"
    return named


CODES: dict[str, Code] = _registry(*FILE, *TEXT, *SHAPE, *TURNS, *TOOLS, *PREFERENCE, *PROFILE, *ROWS)
"""All codes by name. A backend's `check_row` may add findings under codes of its own."""
