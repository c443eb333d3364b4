"""Base models: what a name means, what their files say, how weights and adapters are loaded."""

from tuneport_torch.bases.names import ALIASES, TUNED, Base, fetch, missing_base, read_record, resolve, text_folder

__all__ = ["ALIASES", "TUNED", "Base", "fetch", "missing_base", "read_record", "resolve", "text_folder"]
