"""The server log: an error names its request, and no client can make the log grow fast."""

from __future__ import annotations

import logging
import secrets
import time
from contextvars import ContextVar

from tuneport.plugin import one_line

REQUEST: ContextVar[str] = ContextVar("tuneport_request", default="")
"""The id of the request that this task or thread works on; empty outside of requests."""

_PAUSE_SECONDS = 1.0


def new_id() -> str:
    """Return an id for a request: 128 random bits, so that it is unique and reveals nothing."""
    return f"req_{secrets.token_hex(16)}"


class Sieve(logging.Filter):
    """Adds the request's id to each record. A statement that a client can repeat at will passes once a second, with the
    number of those left out. An error inside a request always passes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[
            tuple[str, int], tuple[float, int]
        ] = {}  # statement → when it last passed, how many were left out since

    def filter(self, record: logging.LogRecord) -> bool:
        """Should the record go into the log?"""
        id_ = REQUEST.get()
        record.request, record.left_out = f"{id_} " if id_ else "", ""
        if id_ and record.levelno >= logging.ERROR:
            return True
        key, now = (record.pathname, record.lineno), time.monotonic()
        passed, count = self._last.get(key, (-_PAUSE_SECONDS, 0))
        if now < passed + _PAUSE_SECONDS:
            self._last[key] = (passed, count + 1)
            return False
        if count:
            record.left_out = f" ({count:,} more like it since the last)"
        self._last[key] = (now, 0)
        return True


class _Plain(logging.Formatter):
    """One line per record: a line break from a client does not start a new line. Only a traceback has several lines,
    and the terminal's outlet shows its control characters.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return one_line(super().formatMessage(record))


def set_up_log() -> None:
    """Send warnings and errors to standard error."""
    handler = logging.StreamHandler()
    handler.addFilter(Sieve())
    handler.setFormatter(_Plain("%(asctime)s %(levelname)s %(request)s%(message)s%(left_out)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns about every request that is not HTTP
