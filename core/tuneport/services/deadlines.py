"""A deadline for each response, for HTTP clients whose timeout applies only to each read."""

from __future__ import annotations

import importlib
import time
from typing import Any

_TOTAL = 2.0  # a complete response may take this many times the read timeout


def bound_time(transport: Any) -> None:
    """Limit the total time of each response. The library's own timeout applies to each read, so a server that sends a
    byte now and then would never time out.
    """
    pool = getattr(transport, "_pool", None)
    backend = getattr(pool, "_network_backend", None)
    if pool is not None and backend is not None and not isinstance(backend, _TimedBackend):
        pool._network_backend = _TimedBackend(backend)  # noqa: SLF001 - there is no public way to wrap a transport's connections


class _TimedBackend:
    """Opens connections whose responses have a deadline."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def connect_tcp(self, *args: Any, **options: Any) -> _TimedStream:
        return _TimedStream(self._inner.connect_tcp(*args, **options))

    def connect_unix_socket(self, *args: Any, **options: Any) -> _TimedStream:
        return _TimedStream(self._inner.connect_unix_socket(*args, **options))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _TimedStream:
    """A connection. A response starts with the first read after a write, and must end in time."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._started: float | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        now = time.monotonic()
        if self._started is None:
            self._started = now
        if timeout is not None:
            left = self._started + timeout * _TOTAL - now
            if left <= 0:
                library = importlib.import_module(type(self._inner).__module__.partition(".")[0])
                raise library.ReadTimeout(f"The response took more than {timeout * _TOTAL:g} s.")
            timeout = min(timeout, left)
        found: bytes = self._inner.read(max_bytes, timeout)
        return found

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._started = None
        self._inner.write(buffer, timeout)

    def start_tls(self, *args: Any, **options: Any) -> _TimedStream:
        return _TimedStream(self._inner.start_tls(*args, **options))

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
