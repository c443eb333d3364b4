"""Outcomes of rows to a part, with a backend's limits applied."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tuneport.dataset.check.limits import TooLong, check_limits
from tuneport.dataset.check.row_keys import row_keys
from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.rules import DataRules
from tuneport.dataset.scan.outcome import Outcome
from tuneport.dataset.scan.part import DIGEST, Part, join_digests


@dataclass(frozen=True, slots=True)
class Limits:
    """The rules of a backend, and how they apply."""

    rules: DataRules
    method: str
    too_long: TooLong


def fold(outcomes: Iterable[Outcome], lines: int, limits: Limits | None = None) -> Part:
    """The part of rows that take `lines` lines; 0 where their outcomes have line numbers of the file."""
    part = Part(lines=lines)
    rows = list(outcomes)
    refused = _apply_limits(rows, limits, part) if limits else frozenset()
    used: list[Outcome] = []
    for number, row in enumerate(rows):
        if row.report is not None:
            part.findings.extend(row.report.found)
        part.read += row.at > 0
        if row.is_accepted:
            part.kept.append(number not in refused)
            if number not in refused:
                used.append(row)
    _add_used(used, part)
    return part


def _add_used(rows: Sequence[Outcome], part: Part) -> None:
    keys = array("Q")
    digests = join_digests([row.line for row in rows])
    for number, row in enumerate(rows):
        example = row.accepted_example()
        assert example is not None
        keys.frombytes(row_keys(example, digests[number * DIGEST : (number + 1) * DIGEST]))
        part.tally.add(example)
    part.add_used(keys, digests, [row.at for row in rows], sum([len(row.line) + 1 for row in rows]))


def _apply_limits(rows: list[Outcome], limits: Limits, part: Part) -> frozenset[int]:
    """The indexes of the rows that the limits refuse; the reasons go into the rows' reports."""
    accepted = [(number, example) for number, row in enumerate(rows) if (example := row.accepted_example()) is not None]
    count = limits.rules.count_tokens
    tokens = count([example for _, example in accepted]) if count and accepted else [None] * len(accepted)
    refused = set()
    for (number, example), size in zip(accepted, tokens, strict=True):
        row = rows[number]
        row.report = row.report or RowReport(row.at)
        if check_limits(example, size, limits.rules, limits.method, limits.too_long, row.report) or row.report.failed:
            refused.add(number)
        elif size is not None:
            part.tally.tokens.add(size)
    return frozenset(refused)
