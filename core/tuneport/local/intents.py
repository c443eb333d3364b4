"""To which job a start belongs: one intent, one job, whichever process asks and however often."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from tuneport.files import sync
from tuneport.homefolder import home
from tuneport.local.folder import read_file


def claim_intent(backend: str, intent: str, name: str) -> str:
    """The name of the job that belongs to an intent: `name` for the first process that asks."""
    claim = _claim(backend, intent)
    with tempfile.NamedTemporaryFile(dir=claim.parent, prefix=".", suffix=".tmp") as draft:
        draft.write(name.encode())
        draft.flush()
        os.fsync(draft.fileno())
        try:
            os.link(draft.name, claim)  # fails where the name exists, which a rename does not
        except FileExistsError:
            return read_file(claim).decode()
    sync(claim.parent)
    return name


def release_intent(backend: str, intent: str) -> None:
    """Forget to which job an intent belongs; for a job that is deleted."""
    _claim(backend, intent).unlink(missing_ok=True)


def _claim(backend: str, intent: str) -> Path:
    return home("jobs", backend, ".intents") / hashlib.sha256(intent.encode()).hexdigest()
