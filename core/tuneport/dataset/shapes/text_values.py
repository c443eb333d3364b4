"""Texts that stand for another value: missing values, Python's notation, and lists of turns in JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.strict_json import escape
from tuneport.dataset.shapes.tools import decode_text

NO_VALUE = frozenset(
    {
        *("nan", "NaN", "NULL", "null", "(null)", "None", "N/A", "\\N", "<NA>", "NaT", "undefined", "<noinput>"),
        *("#N/A", "#NAME?", "#REF!", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!", "#SPILL!", "#CALC!"),
    }
)
"""What pandas, databases, spreadsheets and datasets write for a missing value."""
STARTS = frozenset(("['", '["', "{'", "b'", 'b"', "[{", "ar"))
"""The first two characters of the texts that `describe_python_value` knows."""
_PYTHON = (
    (re.compile(r"\[\s*\{'.*'\s*:.*\}\s*\]\s*\Z", re.DOTALL), "a list of objects in Python's notation"),
    (re.compile(r"\['.*'\]\s*\Z", re.DOTALL), "a list in Python's notation"),
    (re.compile(r"\{'[^']*'\s*:.*\}\s*\Z", re.DOTALL), "an object in Python's notation"),
    (re.compile(r"array\(\[.*\)\s*\Z", re.DOTALL), "an array in NumPy's notation"),
    (re.compile(r"b'[^']*'\Z|b\"[^\"]*\"\Z"), "bytes in Python's notation"),
)


def describe_python_value(text: str) -> str | None:
    """The kind of value that a text is in Python's notation; None for any other text."""
    return next((kind for pattern, kind in _PYTHON if pattern.match(text)), None)


def _is_python_turns(text: str) -> bool:
    """Whether a text is a list of turns in Python's notation."""
    return text.startswith("[") and ("'role'" in text or "'from'" in text) and describe_python_value(text) is not None


def _parse_turns(text: Any) -> list[Any] | None:
    """The turns in a JSON text, as tables store lists; None for any other text."""
    if not (isinstance(text, str) and text.lstrip()[:1] == "[" and ('"role"' in text or '"from"' in text)):
        return None
    value = decode_text(text)
    if not (isinstance(value, list) and value):
        return None
    keys = ({"role", "content"}, {"role", "tool_calls"}, {"from", "value"})
    are_turns = all(isinstance(one, dict) and any(needed <= one.keys() for needed in keys) for one in value)
    return value if are_turns else None


_MAY_BE_TURNS = {
    "prompt/completion": ("prompt", "completion"),
    "chosen/rejected": ("prompt", "chosen", "rejected"),
    "question/answer": ("question", "answer"),
    "instruction/output": ("instruction", "output"),
}
_READ_AS_TURNS = {"prompt/completion": {"prompt", "completion"}, "chosen/rejected": {"chosen", "rejected"}}
"""Columns that are read as turns only if all of them are lists of turns in JSON: a single one may be a text."""


def with_turns(shape: str, columns: Mapping[str, str], values: dict[str, Any], report: RowReport) -> dict[str, Any]:
    """The row with lists of turns instead of JSON texts of such lists."""
    roles = [role for role in _MAY_BE_TURNS.get(shape, ()) if role in columns]
    texts = {role: text for role in roles if isinstance(text := values.get(columns[role]), str) and text[:1] == "["}
    if not texts:
        return values
    found = {role: turns for role, text in texts.items() if (turns := _parse_turns(text)) is not None}
    for role, text in texts.items():
        column = columns[role]
        if _is_python_turns(text):
            remedy = "Write JSON with json.dumps, or save the table as Parquet or JSONL."
            report.add("bad-message", f"{column} has turns in Python's notation.", f"/{escape(column)}", remedy)
    if not found or not found.keys() >= _READ_AS_TURNS.get(shape, {""}):
        for role in found:
            column = columns[role]
            report.add("turns-as-text", f"{column} has turns in JSON, but is read as text.", f"/{escape(column)}")
        return values
    for role in found:
        column = columns[role]
        report.add("read-as-turn", f"{column} is a list of turns in JSON.", f"/{escape(column)}")
    return values | {columns[role]: turns for role, turns in found.items()}
