"""The parts of a comparison as lines of text, and its numbers as words: for terminals and for reports."""

from __future__ import annotations

from tuneport.evaluate.scores import Compared, Difference, Differing, Outcome, Recorded, Side
from tuneport.printable import one_line

OUTCOMES: dict[Outcome, str] = {
    "both": "both right",
    "only_tuned": "only tuned right",
    "only_base": "only base right",
    "neither": "neither right",
    "right": "right",
    "wrong": "wrong",
}


def percent(share: float) -> str:
    """A share as a percentage with one decimal: never 100.0% or 0.0% unless it is exactly that."""
    text = f"{share:.1%}"
    if text == "100.0%" and share < 1:
        return "99.9%"
    return "0.1%" if text == "0.0%" and share > 0 else text


def points(share: float) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return f"{100 * share:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0")


def probability(p_value: float) -> str:
    """A p-value in the usual notation."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def side_line(name: str, side: Side, rows: int) -> str:
    """One model's score with its interval."""
    interval = f"({percent(side.low)} to {percent(side.high)})"
    return (
        f"  {name:<7} {percent(side.mean):>7}  {interval:<18}  {side.right:,} of {rows:,} right   {one_line(side.ref)}"
    )


def difference_line(one: Difference, name: str = "change") -> str:
    """A difference with its interval and p-value."""
    interval = f"({points(one.low)} to {points(one.high)})"
    return f"  {name:<7} {points(one.mean):>6}   {interval:<18}  points, {probability(one.p_value)}"


def recorded_lines(recorded: Recorded, rows: int) -> list[str]:
    """The recorded model's score; also the tuned model's score on the same rows, where those are not all rows."""
    lines = [side_line("old", recorded.side, recorded.rows)]
    if recorded.rows != rows:
        lines.append(side_line("tuned", recorded.tuned, recorded.rows))
    return [*lines, difference_line(recorded.difference, "to old")]


def row_lines(row: Compared) -> list[str]:
    """A row that a model got wrong: prompt, reference and answers."""
    texts = [
        ("prompt", row.prompt),
        ("wanted", row.reference),
        ("base", row.base),
        ("tuned" if row.base is not None else "answer", row.tuned),
    ]
    return [
        f"  row {row.row:,}: {OUTCOMES[row.outcome]}",
        *(f"    {name:<7} {_excerpt(text)}" for name, text in texts if text is not None),
    ]


def differing_lines(row: Differing) -> list[str]:
    """A row on which the tuned model and the recorded one score differently."""
    texts = [("prompt", row.prompt), ("wanted", row.reference), ("old", row.recorded), ("tuned", row.tuned)]
    return [
        f"  row {row.row:,}: {better_or_worse(row)}",
        *(f"    {name:<7} {_excerpt(text)}" for name, text in texts),
    ]


def differing_rows(recorded: Recorded) -> list[Differing]:
    """The rows on which a recorded model scores differently, those that got worse first."""
    return sorted(recorded.examples, key=lambda row: (row.tuned_score - row.recorded_score, row.row))


def better_or_worse(row: Differing) -> str:
    """Which of the two models is better on a row."""
    return "tuned better than recorded" if row.tuned_score > row.recorded_score else "tuned worse than recorded"


def _excerpt(text: str, width: int = 100) -> str:
    """The text on one line, truncated to `width` characters."""
    plain = one_line(" ".join(text.split()))
    return plain if len(plain) <= width else plain[: width - 1] + "…"
