"""How a notebook shows a dataset and the result of a check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tuneport.dataset.example import Example
from tuneport.dataset.findings.diagnostic import Diagnostic
from tuneport.dataset.preview import example_pieces
from tuneport.html import card, grid

_SHOWN = 500  # characters of a row


def dataset_card(title: str, format: str, first: Iterable[Example]) -> str:  # noqa: A002 - as in Dataset.load
    """The name of a dataset and its first rows, as tuneport understands them."""
    rows = [["".join(piece.text for piece in example_pieces(one))[:_SHOWN]] for one in first]
    return card(title, [("format", format)], grid(["first rows"], rows))


def check_card(
    title: str, rows: Mapping[str, int], diagnostics: Sequence[Diagnostic], counts: Mapping[str, int]
) -> str:
    """The numbers of rows, then the first finding of each code."""
    first = {one.code: one for one in reversed(diagnostics)}
    found = [
        [one.severity, code, f"{counts[code]:,}", one.line or "", one.message, one.remedy or ""]
        for code, one in reversed(first.items())
    ]
    facts = [(name, f"{count:,}") for name, count in rows.items()]
    heads = ["severity", "code", "times", "first line", "message", "remedy"]
    return card(title, facts, *([grid(heads, found)] if found else []))
