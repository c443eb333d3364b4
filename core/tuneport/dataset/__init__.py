"""Foreign rows in, checked examples out; each file is imported when it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneport.dataset.dataset import Dataset
    from tuneport.dataset.example import (
        Completion,
        Conversation,
        Example,
        Message,
        Preference,
        canonical,
        from_canonical,
    )
    from tuneport.dataset.findings.diagnostic import Diagnostic
    from tuneport.dataset.fix.fix import FixResult
    from tuneport.dataset.preview import coloured, plain, untokenised
    from tuneport.dataset.result import CheckResult
    from tuneport.dataset.rules import DataRules, Piece
    from tuneport.dataset.stats import Stats

_FILES = {
    "dataset": "Dataset",
    "findings.diagnostic": "Diagnostic",
    "example": "Completion Conversation Example Message Preference canonical from_canonical",
    "fix.fix": "FixResult",
    "preview": "coloured plain untokenised",
    "rules": "DataRules Piece",
    "result": "CheckResult",
    "stats": "Stats",
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names.split()}

__all__ = [
    "CheckResult",
    "Completion",
    "Conversation",
    "DataRules",
    "Dataset",
    "Diagnostic",
    "Example",
    "FixResult",
    "Message",
    "Piece",
    "Preference",
    "Stats",
    "canonical",
    "coloured",
    "from_canonical",
    "plain",
    "untokenised",
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_FILE_OF[name]}"), name)
    globals()[name] = value
    return value
