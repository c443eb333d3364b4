"""All checks of some rows: of each row, of the file, and of all rows together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tuneport.dataset.check import all_rows, one_file
from tuneport.dataset.findings.findings import Findings
from tuneport.dataset.rows import Rows
from tuneport.dataset.scan.fold import Limits
from tuneport.dataset.scan.scan import Scan
from tuneport.dataset.stats import Stats


class Checked(NamedTuple):
    """The scan of the rows, all findings, and the stats of the rows that are used."""

    scan: Scan
    findings: Findings
    stats: Stats


def check_rows(rows: Rows, method: str, limits: Limits | None, held_out: Iterable[Rows]) -> Checked:
    """Check rows for a method, against the limits of a backend, and for leaks into held-out rows."""
    found = rows.scan(limits)
    findings, stats = found.findings.copy(), found.tally.stats()
    rules = limits.rules if limits else None
    recipe = rows.origin.recipe
    one_file.check_use(found.read, found.used, findings)
    if recipe is not None:
        one_file.check_columns(recipe, findings)
    for code, message in one_file.describe_reading(recipe, stats.shapes, rules):
        findings.add(code, message)
    if rules is None:
        one_file.check_method(stats.shapes, method, findings)
    else:
        one_file.check_rules(found.size, rules, findings)
    if loose := rows.origin.loose_names:
        findings.add("column-names", f"Column names match except for case or spaces: {', '.join(loose)}.")
    all_rows.check_repeats(found.records, findings)
    for others in held_out:
        all_rows.check_leaks(found.records, others.scan().records, findings, other=others.origin.source.name)
    all_rows.check_labels(stats.labels, findings)
    all_rows.check_size(found.used, rules, findings)
    return Checked(found, findings, stats)
