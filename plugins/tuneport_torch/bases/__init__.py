"""Base models: what a name means, what their files say, how weights and adapters are loaded."""

from tuneport_torch.bases.base import Base
from tuneport_torch.bases.hub import fetch
from tuneport_torch.bases.names import ALIASES, resolve, text_folder
from tuneport_torch.bases.record import TUNED, missing_base, read_record

__all__ = ["ALIASES", "TUNED", "Base", "fetch", "missing_base", "read_record", "resolve", "text_folder"]
