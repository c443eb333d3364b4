"""Foreign rows in, checked examples out."""

from tuneport.dataset.dataset import Dataset, set_openers
from tuneport.dataset.diagnostics import Diagnostic
from tuneport.dataset.example import Completion, Conversation, Example, Message, Preference, canonical, from_canonical
from tuneport.dataset.profile import DataProfile, Piece
from tuneport.dataset.result import CheckResult

__all__ = [
    "CheckResult",
    "Completion",
    "Conversation",
    "DataProfile",
    "Dataset",
    "Diagnostic",
    "Example",
    "Message",
    "Piece",
    "Preference",
    "canonical",
    "from_canonical",
    "set_openers",
]
