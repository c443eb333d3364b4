"""Access tokens: who may use the server. A token has a name, which owns files and jobs; only its hash is stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence

from tuneport.errors import NotFoundError, UsageError
from tuneport_server.store import Row, Store

Known = Sequence[tuple[str, str]]
"""Name and fingerprint of each access token."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z")


class AccessTokens:
    """The access tokens of one store. A token that is removed and added again has the same owner."""

    def __init__(self, store: Store) -> None:
        self._table = store.tokens

    def add(self, name: str) -> str:
        """Create an access token with that name. Only this call returns it. Raises UsageError for a name in use."""
        if not _NAME.match(name):
            raise UsageError(
                f"{name!r} cannot be the name of an access token.",
                remedy="Use up to 32 lowercase letters, digits, - and _, such as: tuneport access add laptop",
            )
        token = f"tp-{secrets.token_urlsafe(32)}"
        if not self._table.add(name, fingerprint(token), int(time.time())):
            raise UsageError(
                f"There is already an access token named {name!r}.",
                remedy=f"To replace it, run tuneport access remove {name}, and add it again.",
            )
        return token

    def list(self) -> Sequence[Row]:
        """Return `name` and `created` (seconds since 1970) of each, oldest first."""
        return self._table.all()

    def remove(self, name: str) -> None:
        """Refuse an access token from now on. What it owns is kept. Raises NotFoundError."""
        if not self._table.remove(name):
            raise NotFoundError(f"There is no access token named {name!r}.", remedy="Run: tuneport access list")

    def known(self) -> Known:
        """Return name and fingerprint of each."""
        return [(row["name"], row["sha256"]) for row in self._table.all()]


def fingerprint(token: str) -> str:
    """Return what is stored of a token: its SHA-256, because 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def owner_in(known: Known, fingerprint: str) -> str | None:
    """Return the name that a fingerprint belongs to. Compares with all of them, so that its duration reveals
    nothing.
    """
    found = None
    for name, one in known:
        if hmac.compare_digest(fingerprint, one):
            found = name
    return found
