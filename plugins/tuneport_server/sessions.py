"""Who has logged in to the page: a cookie in exchange for a token, until the token is removed or half a day is over."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuneport_server.tokens import Tokens

COOKIE = "tuneport"
LIFE_SECONDS = 12 * 3600
_MOST = 1000


class Sessions:
    """The sessions of one running server, kept in memory alone: a new server asks for the token again."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._lock = threading.Lock()
        self._open: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def open(self, token: str) -> str | None:
        """The cookie's value for a token; None for one that is not known."""
        if self._tokens.owner(token) is None:
            return None
        value = secrets.token_urlsafe(32)
        with self._lock:
            self._open[_hash(value)] = (self._tokens.fingerprint(token), time.monotonic() + LIFE_SECONDS)
            while len(self._open) > _MOST:
                self._open.popitem(last=False)
        return value

    def owner(self, value: str) -> str | None:
        """Whose session it is; None when it is over, or its token was removed."""
        with self._lock:
            token, end = self._open.get(_hash(value), ("", 0.0))
        return self._tokens.owner_of(token) if time.monotonic() < end else None

    def close(self, value: str) -> None:
        """Log out."""
        with self._lock:
            self._open.pop(_hash(value), None)


def _hash(value: str) -> str:
    # Looked up by its hash: how long that takes tells nothing about the value.
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
