"""A comparison as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneport.printable import one_line

if TYPE_CHECKING:
    from tuneport.evaluate.comparison import Compared, Comparison, Difference, Differing, Outcome, Recorded, Side

SHOWN_ROWS = 6
SHOWN_DIFFERING = 4
OUTCOMES: dict[Outcome, str] = {
    "both": "both right",
    "only_tuned": "only tuned right",
    "only_base": "only base right",
    "neither": "neither right",
    "right": "right",
    "wrong": "wrong",
}


def comparison_text(comparison: Comparison) -> str:
    """The scores with their 95% intervals, the counts, and the first rows that went wrong or came right."""
    one = comparison
    lines = [f"{one.rows_told}, graded by {one_line(one.grader)}; 95% intervals"]
    lines += [f"warning: {one_line(one.warning)}"] if one.warning else []
    lines.append("")
    lines += [
        _side_line(name, side, one.rows)
        for name, side in (("base", one.base), ("tuned" if one.base else "model", one.tuned))
        if side
    ]
    if one.difference:
        lines.append(_difference_line(one.difference))
    if one.recorded:
        lines += _recorded_lines(one.recorded, one.rows)
    counts = [f"{OUTCOMES[name]} {count:,}" for name, count in one.outcomes.items()]
    if one.graded and one.difference:
        counts += [f"better {one.difference.better:,}", f"worse {one.difference.worse:,}"]
    lines += ["", "  " + " · ".join(counts)]
    lines += [f"  note: {one_line(note)}" for note in one.notes]
    # what got worse first, then what is still wrong, then what got better
    order: list[Outcome] = ["only_base", "wrong", "neither", "only_tuned"]
    picked = [row for name in order for row in [one for one in comparison.examples if one.outcome == name][:2]]
    for row in picked[:SHOWN_ROWS]:
        lines += ["", *_row_lines(row)]
    for differing in differing_rows(one.recorded)[:SHOWN_DIFFERING] if one.recorded else ():
        lines += ["", *_differing_lines(differing)]
    return "\n".join(lines)


def differing_rows(found: Recorded) -> list[Differing]:
    """The rows in which a recorded model scores differently, those that got worse first."""
    return sorted(found.examples, key=lambda row: (row.tuned_score - row.recorded_score, row.row))


def recorded_words(row: Differing) -> str:
    """Which of the two is better in a row."""
    return "tuned better than recorded" if row.tuned_score > row.recorded_score else "tuned worse than recorded"


def percent(share: float) -> str:
    """A share as per cent with one decimal: never 100.0% or 0.0% unless it is exactly that."""
    text = f"{share:.1%}"
    if text == "100.0%" and share < 1:
        return "99.9%"
    return "0.1%" if text == "0.0%" and share > 0 else text


def points(share: float) -> str:
    """A difference of shares in points of per cent, with its sign."""
    return f"{100 * share:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0")


def probability(p_value: float) -> str:
    """A p-value as it is usually told."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _side_line(name: str, side: Side, rows: int) -> str:
    interval = f"({percent(side.low)} to {percent(side.high)})"
    return (
        f"  {name:<7} {percent(side.mean):>7}  {interval:<18}  {side.right:,} of {rows:,} right   {one_line(side.ref)}"
    )


def _difference_line(one: Difference, name: str = "change") -> str:
    interval = f"({points(one.low)} to {points(one.high)})"
    return f"  {name:<7} {points(one.mean):>6}   {interval:<18}  points, {probability(one.p_value)}"


def _recorded_lines(found: Recorded, rows: int) -> list[str]:
    """The recorded model's score; the tuned one's on the same rows, where those are not all rows."""
    lines = [_side_line("old", found.side, found.rows)]
    if found.rows != rows:
        lines.append(_side_line("tuned", found.tuned, found.rows))
    return [*lines, _difference_line(found.difference, "to old")]


def _differing_lines(row: Differing) -> list[str]:
    told = [("prompt", row.prompt), ("wanted", row.reference), ("old", row.recorded), ("tuned", row.tuned)]
    return [
        f"  row {row.row:,}: {recorded_words(row)}",
        *(f"    {name:<7} {_line(text)}" for name, text in told),
    ]


def _row_lines(row: Compared) -> list[str]:
    told = [
        ("prompt", row.prompt),
        ("wanted", row.reference),
        ("base", row.base),
        ("tuned" if row.base is not None else "answer", row.tuned),
    ]
    return [
        f"  row {row.row:,}: {OUTCOMES[row.outcome]}",
        *(f"    {name:<7} {_line(text)}" for name, text in told if text is not None),
    ]


def _line(text: str, width: int = 100) -> str:
    """One line, cut where it gets long."""
    plain = one_line(" ".join(text.split()))
    return plain if len(plain) <= width else plain[: width - 1] + "…"
