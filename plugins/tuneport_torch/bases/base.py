"""A base model: its name, where its files are, and the fingerprint of their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tuneport.errors import UnavailableError
from tuneport_torch.bases.facts import Facts, first_fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A model on this machine, or (`path` None) one that the hub may have.

    `name` resolves to the same base from any working directory. `fingerprint` identifies the content: SHA-256 over all
    files that are loaded, of which large ones count by size and samples. `parent` is the base under an adapter folder.
    `upstream` is the name that other programs use for it. `near` is the folder from which an adapter's relative base
    was found: pass it to `resolve` to find it again.
    """

    name: str
    kind: Literal["hub", "folder", "gguf"]
    path: Path | None
    fingerprint: str
    description: str
    upstream: str
    revision: str | None = None
    facts: Facts = field(default_factory=Facts)
    parent: Base | None = None
    trust_remote_code: bool = False
    near: str | None = None

    @property
    def is_present(self) -> bool:
        """Whether its weights are on this machine."""
        return self.path is not None

    def matches(self, fingerprint: str) -> bool:
        """Whether a stored fingerprint is this model's, in today's form or in the first one."""
        return fingerprint in (self.fingerprint, _first_fingerprint(self))

    def require_path(self) -> Path:
        """The path of its files. Raises UnavailableError if the model is not downloaded."""
        if self.path is None:
            raise not_downloaded_error(self.name)
        return self.path


def join_fingerprints(adapter: str, base: str) -> str:
    """The fingerprint of an adapter together with the base under it."""
    return hashlib.sha256(f"{adapter}{base}".encode()).hexdigest()


def not_downloaded_error(name: str) -> UnavailableError:
    """The error for a hub model that is not downloaded and cannot be now."""
    repo, _, revision = name.partition("@")
    at = f" --revision {revision}" if revision else ""
    return UnavailableError(
        f"{name} is not on this machine, and the hub cannot be reached.",
        remedy=f"With network access and without HF_HUB_OFFLINE, run: hf download {repo}{at}. "
        "To name a folder, start it with ./, ~ or /.",
    )


def _first_fingerprint(base: Base) -> str:
    if base.path is None:
        return base.fingerprint
    own = first_fingerprint(base.path)
    return own if base.parent is None else join_fingerprints(own, _first_fingerprint(base.parent))
