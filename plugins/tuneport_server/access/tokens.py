"""Who may ask: named tokens, of which only the hash is kept."""

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
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}\Z")


class Tokens:
    """The tokens of one store. A name owns files and jobs; a token taken away and made again is the same owner's."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, name: str) -> str:
        """A new token for that name: this is the only time it can be seen. Raises UsageError for a name in use."""
        if not _NAME.match(name):
            raise UsageError(
                f"{name!r} cannot be a token's name.",
                remedy="Use up to 32 small letters, digits, - and _, such as: tuneport tokens add laptop",
            )
        token = f"tp-{secrets.token_urlsafe(32)}"
        with self._store.write():
            if self._store.row("SELECT 1 FROM tokens WHERE name = ?", name):
                raise UsageError(
                    f"There is a token called {name!r} already.",
                    remedy=f"To have a new one in its place: tuneport tokens remove {name}, then add it again.",
                )
            self._store.insert("tokens", name=name, sha256=self.fingerprint(token), created=int(time.time()))
        return token

    def list(self) -> list[Row]:
        """Name and creation (seconds since 1970) of each, oldest first."""
        return self._store.rows("SELECT name, created FROM tokens ORDER BY created, name")

    def remove(self, name: str) -> None:
        """The token is refused from now on; what it owns stays. Raises NotFoundError."""
        with self._store.write() as sql:
            if not sql.execute("DELETE FROM tokens WHERE name = ?", (name,)).rowcount:
                raise NotFoundError(f"There is no token called {name!r}.", remedy="Run: tuneport tokens list")

    def owner(self, token: str) -> str | None:
        """The name that the token belongs to."""
        return self.owner_of(self.fingerprint(token))

    def owner_of(self, fingerprint: str) -> str | None:
        """The same of a token's fingerprint."""
        return owner_in(self.all(), fingerprint)

    def all(self) -> Known:
        """Name and fingerprint of each."""
        return [(row["name"], row["sha256"]) for row in self._store.rows("SELECT name, sha256 FROM tokens")]

    @staticmethod
    def fingerprint(token: str) -> str:
        """What is kept of a token: its SHA-256, since 256 random bits need no slow hash."""
        return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def owner_in(known: Known, fingerprint: str) -> str | None:
    """The name that a fingerprint belongs to. Looks at all of them, so that time tells nothing."""
    found = None
    for name, one in known:
        if hmac.compare_digest(fingerprint, one):
            found = name
    return found
