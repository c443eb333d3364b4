"""Who has logged in to the page: a cookie in exchange for a token, until the token is removed or half a day is over."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict

COOKIE = "tuneport"
LIFE_SECONDS = 12 * 3600
_MOST = 1000


class Sessions:
    """The sessions of one running server, kept in memory alone: a new server asks for the token again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def open(self, fingerprint: str) -> str:
        """The cookie's value for the fingerprint of a known token."""
        value = secrets.token_urlsafe(32)
        with self._lock:
            self._open[_hash(value)] = (fingerprint, time.monotonic() + LIFE_SECONDS)
            while len(self._open) > _MOST:
                self._open.popitem(last=False)
        return value

    def fingerprint(self, value: str) -> str | None:
        """The fingerprint of the token that the session was opened with; None when it is over. Whoever asks checks
        whether that token is still known.
        """
        with self._lock:
            token, end = self._open.get(_hash(value), ("", 0.0))
        return token if time.monotonic() < end else None

    def close(self, value: str) -> None:
        """Log out."""
        with self._lock:
            self._open.pop(_hash(value), None)


def _hash(value: str) -> str:
    # Looked up by its hash: how long that takes tells nothing about the value.
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
