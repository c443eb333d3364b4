"""The checks of all rows together: repeats, leaks into held-out rows, labels, and the number of rows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from tuneport.dataset.check.repeats import Records, find_leaks, find_repeats
from tuneport.dataset.check.row_keys import normalize
from tuneport.dataset.findings.findings import Findings
from tuneport.dataset.findings.row_report import Finding
from tuneport.dataset.rules import DataRules

FEW_ROWS = 50
UNEVEN = 10  # times as many rows of the most frequent label as of the rarest
_SHOWN = 3
_JOINER = re.compile(rb"(?<=[^\W\d_])[-_](?=[^\W\d_])")  # not the sign in -1

_REPEAT_CODES = {"duplicate": "duplicate", "near-duplicate": "near-duplicate", "conflict": "conflicting-answers"}
_MESSAGES = {
    "duplicate": "The same as line {first}.",
    "near-duplicate": "The same as line {first}, except for case, white space or punctuation.",
    "conflict": "The same prompt as on line {first}, with another answer.",
    "leaked-row": "The same row is in {other}, line {first}.",
    "leaked-prompt": "The same prompt is in {other}, line {first}, with another answer.",
}


def check_repeats(records: Records, findings: Findings) -> None:
    """Rows that repeat an earlier one; the places in `records` are their lines."""
    for repeat in find_repeats(records):
        message = _MESSAGES[repeat.kind].format(first=repeat.first)
        findings.note(Finding(_REPEAT_CODES[repeat.kind], message, repeat.place))


def check_leaks(records: Records, held_out: Records, findings: Findings, *, other: str) -> None:
    """Training rows that are also in the held-out data, which findings call `other`."""
    for leak in find_leaks(records, held_out):
        findings.note(Finding(leak.kind, _MESSAGES[leak.kind].format(first=leak.first, other=other), leak.place))


def check_labels(labels: Mapping[str, int] | None, findings: Findings) -> None:
    """Labels that make learning hard; `labels` are those of `Stats`, most frequent first."""
    if not labels:
        return
    if len(labels) == 1:
        label, rows = next(iter(labels.items()))
        findings.add("single-label", f"All {rows:,} rows have the answer {_quote(label)}.")
        return
    most, least = max(labels.values()), min(labels.values())
    if most >= UNEVEN * least:
        counts = [f"{_quote(label)} {rows:,}" for label, rows in labels.items()]
        if len(counts) > 2 * _SHOWN:
            counts[_SHOWN:-_SHOWN] = ["…"]
        findings.add("label-imbalance", f"The labels have from {least:,} to {most:,} rows: {', '.join(counts)}.")
    for names in _group_spellings(labels):
        counts = [f"{_quote(name)} {labels[name]:,}" for name in names]
        findings.add("label-spellings", f"These labels differ only in spelling: {', '.join(counts)} rows.")


def check_size(rows: int, rules: DataRules | None, findings: Findings) -> None:
    """Too few rows for the backend, or too few to learn much from."""
    if rules is not None and rows < rules.min_rows:
        findings.add("too-few-rows", f"The data has {_count(rows)}. The backend requires at least {rules.min_rows:,}.")
    elif 0 < rows < FEW_ROWS:
        findings.add(
            "few-rows", f"The data has {_count(rows)}. A model rarely learns a task from fewer than {FEW_ROWS}."
        )


def _count(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _group_spellings(labels: Mapping[str, int]) -> list[list[str]]:
    """Groups of labels that are equal without case, white space and joiners such as `_`."""
    groups: defaultdict[bytes, list[str]] = defaultdict(list)
    for label in labels:
        groups[_JOINER.sub(b"", normalize(label.encode()))].append(label)
    return [names for key, names in groups.items() if key and len(names) > 1]


def _quote(label: str) -> str:
    return f'"{label}"' if len(label) <= 40 else f'"{label[:39]}…"'
