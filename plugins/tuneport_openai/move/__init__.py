"""Move from a vendor: what an account has, and each job brought home with all that is needed to train it again."""

from tuneport_openai.move.account import Account, OldFile, OldJob, read_account, read_job

__all__ = ["Account", "OldFile", "OldJob", "read_account", "read_job"]
