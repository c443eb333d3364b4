"""What the data commands print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tuneport.errors import DataError
from tuneport.terminal.outlet import console, is_terminal, say, say_json, say_lines, wrap
from tuneport.terminal.tables import working

if TYPE_CHECKING:
    from tuneport.dataset import CheckResult, DataRules, Dataset, FixResult

_COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}


def show_check(result: CheckResult, *, everything: bool = False, target: str | None = None) -> None:
    """Print the counts, then the findings by code: how many, where the first one is, and its remedy."""
    from tuneport.dataset import draw_stats

    against = f" for {target}" if target else ""
    say((result.file or "data", "bold"), f" {result.format}{against}")
    say(f"  read {result.read:,} = used {result.used:,} + rejected {result.rejected:,}")
    for line in draw_stats(result.stats, plain=not is_terminal()):
        say_lines(f"  {line}")
    printed: dict[str, int] = {}
    for one in result.diagnostics:
        seen = printed[one.code] = printed.get(one.code, 0) + 1
        if seen > 1 and one.line is not None and not everything:  # findings about the file have no line
            continue
        count = result.counts[one.code]
        times = f" ({count:,} times)" if seen == 1 and count > 1 and one.line is not None else ""
        place = "".join(f"{mark}{part}" for mark, part in ((" line ", one.line), (" ", one.pointer)) if part)
        say((one.severity, _COLORS[one.severity]), " ", (one.code, "bold"), f"{times}{place}")
        say(f"    {one.message}")
        if seen == 1:
            say((f"    → {one.remedy}", "dim"))
    say((f"fingerprint {result.fingerprint[:16]}…", "dim"))
    if not result.diagnostics:
        say(("No problems found.", "green"))


def show_fix(result: FixResult) -> None:
    """Print what was fixed, row by row, and the counts."""
    for change in result.changes:
        where = f"line {change.line}" if change.line else "a row"
        say(f"{where}{' ' + change.pointer if change.pointer else ''}: {change.action} ({change.code})")
        if change.message:
            say(f"    {change.message}")
        for sign, text in (("-", change.before), ("+", change.after)):
            if text is not None:  # quoted, because fixes often concern white space and control characters
                say(f"    {sign} {json.dumps(text, ensure_ascii=False)}")
    if (more := sum(result.counts.values()) - len(result.changes)) > 0:
        say(f"and {more:,} more changes")
    say(f"read {result.read:,} = written {result.written:,} + dropped {result.dropped:,}")
    say(f"Wrote {result.path}")


def show_preview(data: Dataset, rules: DataRules | None, rows: int, *, as_json: bool) -> None:
    """Print a few rows as the model sees them, with the parts that are trained on marked. Without rules, print them as
    they were read.
    """
    from itertools import islice

    from tuneport.dataset import example_pieces, to_colored_text, to_plain_text

    with working(f"Reading {data.name}"):
        pieces = data.preview(rules, rows) if rules else [example_pieces(one) for one in islice(data, rows)]
    if not pieces:
        raise DataError(f"{data.name} has no usable rows.", remedy=f"To see why: tuneport check {data.name}")
    if as_json:
        found = [[{"text": p.text, "weight": p.weight, "tokens": p.tokens} for p in row] for row in pieces]
        say_json({"rows": found, "notes": data.readings(rules, rows)})
        return
    for sentence in data.readings(rules, rows):
        say(("note: ", "cyan"), sentence)
    for number, row in enumerate(pieces, 1):
        say((f"row {number}", "dim"))
        if is_terminal():
            for line in wrap(to_colored_text(row), console().width):
                console().print(line)
        else:
            say_lines(to_plain_text(row))
