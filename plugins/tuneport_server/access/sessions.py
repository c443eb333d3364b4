"""Sessions of the page: a cookie in exchange for an access token, until the token is removed or 12 hours are over."""

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
    """The sessions of one running server, in memory only: a new server asks for the token again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def open(self, fingerprint: str) -> str:
        """Open a session for the fingerprint of a known token. Returns the cookie's value."""
        value = secrets.token_urlsafe(32)
        with self._lock:
            self._open[_hash(value)] = (fingerprint, time.monotonic() + LIFE_SECONDS)
            while len(self._open) > _MOST:
                self._open.popitem(last=False)
        return value

    def fingerprint(self, value: str) -> str | None:
        """Return the fingerprint of the token that opened the session; None when the session is over. The caller must
        check that the token is still known.
        """
        with self._lock:
            token, end = self._open.get(_hash(value), ("", 0.0))
        return token if time.monotonic() < end else None

    def close(self, value: str) -> None:
        """Close a session."""
        with self._lock:
            self._open.pop(_hash(value), None)


def _hash(value: str) -> str:
    # Looked up by its hash: the duration of the lookup reveals nothing about the value.
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
