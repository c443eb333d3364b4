"""Texts that are not what they seem: values of another program that were written out as text, and lists of turns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tuneport.dataset.findings.findings import RowReport
from tuneport.dataset.read.strict_json import escape
from tuneport.dataset.shapes.tools import decoded

NO_VALUE = frozenset(
    {
        *("nan", "NaN", "NULL", "null", "(null)", "None", "N/A", "\\N", "<NA>", "NaT", "undefined", "<noinput>"),
        *("#N/A", "#NAME?", "#REF!", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!", "#SPILL!", "#CALC!"),
    }
)
"""What pandas, databases, spreadsheets and data sets write where there is no value."""
STARTS = frozenset(("['", '["', "{'", "b'", 'b"', "[{", "ar"))
"""What the texts that `python_value` knows start with."""
_PYTHON = (
    (re.compile(r"\[\s*\{'.*'\s*:.*\}\s*\]\s*\Z", re.DOTALL), "a list of objects as Python writes it"),
    (re.compile(r"\['.*'\]\s*\Z", re.DOTALL), "a list as Python writes it"),
    (re.compile(r"\{'[^']*'\s*:.*\}\s*\Z", re.DOTALL), "an object as Python writes it"),
    (re.compile(r"array\(\[.*\)\s*\Z", re.DOTALL), "an array as NumPy writes it"),
    (re.compile(r"b'[^']*'\Z|b\"[^\"]*\"\Z"), "bytes as Python writes them"),
)


def python_value(text: str) -> str | None:
    """What a text is that Python made of a value in place of JSON; None where it is none."""
    return next((what for pattern, what in _PYTHON if pattern.match(text)), None)


def _holds_python_turns(text: str) -> bool:
    """Whether a text is a list of turns as Python writes it."""
    return text.startswith("[") and ("'role'" in text or "'from'" in text) and python_value(text) is not None


def _turns_in(text: Any) -> list[Any] | None:
    """The turns of a list that stands there as a JSON text, as tables hold it; None where there is none."""
    if not (isinstance(text, str) and text.lstrip()[:1] == "[" and ('"role"' in text or '"from"' in text)):
        return None
    value = decoded(text)
    if not (isinstance(value, list) and value):
        return None
    keys = ({"role", "content"}, {"role", "tool_calls"}, {"from", "value"})
    told = all(isinstance(one, dict) and any(wanted <= one.keys() for wanted in keys) for one in value)
    return value if told else None


_MAY_BE_TURNS = {
    "prompt/completion": ("prompt", "completion"),
    "chosen/rejected": ("prompt", "chosen", "rejected"),
    "question/answer": ("question", "answer"),
    "instruction/output": ("instruction", "output"),
}
_READ_AS_TURNS = {"prompt/completion": {"prompt", "completion"}, "chosen/rejected": {"chosen", "rejected"}}
"""The columns that are read as turns where all of these are lists of turns in JSON: one alone may be meant as text."""


def with_turns(shape: str, columns: Mapping[str, str], values: dict[str, Any], report: RowReport) -> dict[str, Any]:
    """The row in which lists of turns that a table holds as JSON texts are lists."""
    roles = [role for role in _MAY_BE_TURNS.get(shape, ()) if role in columns]
    texts = {role: text for role in roles if isinstance(text := values.get(columns[role]), str) and text[:1] == "["}
    if not texts:
        return values
    found = {role: turns for role, text in texts.items() if (turns := _turns_in(text)) is not None}
    for role, text in texts.items():
        column = columns[role]
        if _holds_python_turns(text):
            cure = "Write JSON, with json.dumps, or save the table as Parquet or JSONL."
            report.add("bad-message", f"{column} holds turns as Python writes them.", f"/{escape(column)}", cure)
    if not found or not found.keys() >= _READ_AS_TURNS.get(shape, {""}):
        for role in found:
            column = columns[role]
            report.add("turns-as-text", f"{column} holds turns as JSON, and is read as text.", f"/{escape(column)}")
        return values
    for role in found:
        column = columns[role]
        report.add("read-as-turn", f"{column} is a list of turns in JSON.", f"/{escape(column)}")
    return values | {columns[role]: turns for role, turns in found.items()}
