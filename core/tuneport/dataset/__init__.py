"""Rows from any source to checked examples. Other rooms use only the names exported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneport.doors import lazy

if TYPE_CHECKING:
    from tuneport.dataset.charts import draw_stats
    from tuneport.dataset.check.row_keys import text_key
    from tuneport.dataset.dataset import CheckResult, Dataset
    from tuneport.dataset.example import (
        ROLES,
        Completion,
        Conversation,
        Example,
        Message,
        Preference,
        canonical,
        from_canonical,
    )
    from tuneport.dataset.findings.diagnostic import Diagnostic, Severity
    from tuneport.dataset.fix.fix import FixResult
    from tuneport.dataset.preview import example_pieces, to_colored_text, to_plain_text
    from tuneport.dataset.read.files import missing_file_error
    from tuneport.dataset.read.open_source import is_known_source
    from tuneport.dataset.rules import DataRules, ExampleShape, Piece
    from tuneport.dataset.stats import Stats

_EXPORTS = {
    "dataset.charts": "draw_stats",
    "dataset.check.row_keys": "text_key",
    "dataset.dataset": "CheckResult Dataset",
    "dataset.example": "ROLES Completion Conversation Example Message Preference canonical from_canonical",
    "dataset.findings.diagnostic": "Diagnostic Severity",
    "dataset.fix.fix": "FixResult",
    "dataset.preview": "example_pieces to_colored_text to_plain_text",
    "dataset.read.files": "missing_file_error",
    "dataset.read.open_source": "is_known_source",
    "dataset.rules": "DataRules ExampleShape Piece",
    "dataset.stats": "Stats",
}

__all__ = [
    "ROLES",
    "CheckResult",
    "Completion",
    "Conversation",
    "DataRules",
    "Dataset",
    "Diagnostic",
    "Example",
    "ExampleShape",
    "FixResult",
    "Message",
    "Piece",
    "Preference",
    "Severity",
    "Stats",
    "canonical",
    "draw_stats",
    "example_pieces",
    "from_canonical",
    "is_known_source",
    "missing_file_error",
    "text_key",
    "to_colored_text",
    "to_plain_text",
]

if not TYPE_CHECKING:  # a type checker that saw it would accept every name
    __getattr__ = lazy(__name__, _EXPORTS)
