"""Checks that need all rows: repeats, leaks into the held-out rows, labels, and how many rows there are."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from tuneport.dataset.check.repeats import Records, find_leaks, find_repeats
from tuneport.dataset.check.row_keys import normalised
from tuneport.dataset.findings.findings import Finding, Findings
from tuneport.dataset.rules import DataRules

FEW_ROWS = 50
UNEVEN = 10  # times as many rows for the most frequent label as for the rarest
_SHOWN = 3
_JOINT = re.compile(rb"(?<=[^\W\d_])[-_](?=[^\W\d_])")  # not the sign in -1

_REPEAT_CODES = {"duplicate": "duplicate", "near-duplicate": "near-duplicate", "conflict": "conflicting-answers"}
_MESSAGES = {
    "duplicate": "The same as line {first}.",
    "near-duplicate": "The same as line {first} but for case, white space or punctuation.",
    "conflict": "The same prompt as on line {first}, with another answer.",
    "leaked-row": "The same row stands in {other}, line {first}.",
    "leaked-prompt": "The same prompt stands in {other}, line {first}, with another answer.",
}


def check_repeats(records: Records, findings: Findings) -> None:
    """Rows that repeat an earlier one; the places in `records` are their lines."""
    for repeat in find_repeats(records):
        message = _MESSAGES[repeat.kind].format(first=repeat.first)
        findings.note(Finding(_REPEAT_CODES[repeat.kind], message, repeat.place))


def check_leaks(records: Records, held_out: Records, findings: Findings, *, other: str) -> None:
    """Rows for training that the held-out rows have too; `other` names the held-out data."""
    for leak in find_leaks(records, held_out):
        findings.note(Finding(leak.kind, _MESSAGES[leak.kind].format(first=leak.first, other=other), leak.place))


def check_labels(labels: Mapping[str, int] | None, findings: Findings) -> None:
    """Labels that leave little to learn; `labels` are those of `Stats`, most frequent first."""
    if not labels:
        return
    if len(labels) == 1:
        label, rows = next(iter(labels.items()))
        findings.add("single-label", f"All {rows:,} rows have the answer {_quoted(label)}.")
        return
    most, least = max(labels.values()), min(labels.values())
    if most >= UNEVEN * least:
        counts = [f"{_quoted(label)} {rows:,}" for label, rows in labels.items()]
        if len(counts) > 2 * _SHOWN:
            counts[_SHOWN:-_SHOWN] = ["…"]
        findings.add("label-imbalance", f"The labels have from {least:,} to {most:,} rows: {', '.join(counts)}.")
    for names in _spellings(labels):
        spelt = ", ".join(f"{_quoted(name)} {labels[name]:,}" for name in names)
        findings.add("label-spellings", f"These labels differ only in spelling: {spelt} rows.")


def check_size(rows: int, rules: DataRules | None, findings: Findings) -> None:
    """Too few rows for the backend, or too few to learn much from."""
    if rules is not None and rows < rules.min_rows:
        findings.add("too-few-rows", f"The data has {_rows(rows)}; at least {rules.min_rows:,} are asked for.")
    elif 0 < rows < FEW_ROWS:
        findings.add("few-rows", f"The data has {_rows(rows)}; a model seldom learns a task from under {FEW_ROWS}.")


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _spellings(labels: Mapping[str, int]) -> list[list[str]]:
    """Groups of labels that are one label once case, white space and joints such as `_` are left out."""
    groups: defaultdict[bytes, list[str]] = defaultdict(list)
    for label in labels:
        groups[_JOINT.sub(b"", normalised(label.encode()))].append(label)
    return [names for key, names in groups.items() if key and len(names) > 1]


def _quoted(label: str) -> str:
    return f'"{label}"' if len(label) <= 40 else f'"{label[:39]}…"'
