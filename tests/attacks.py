"""Clients without good faith: crowds of connections that send too slowly, too much, or never read."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time

HALF_HEAD = b"GET /login HTTP/1.1\r\nHost: localhost\r\nX-Filler: a"
SLOW_LOGIN = (
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\ntoken=a"
)
SLOW_BODY = (
    b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\nAuthorization: Bearer %s\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
)
WRONG_TOKEN = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer tp-%08d\r\n\r\n"
NO_HTTP = b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"


class Crowd:
    """`count` connections to a port, each of which sends `first`, and then `drip` once a `pause` (seconds). One that
    the server closes is opened again. `reads` is whether the answers are read. To be used in a `with` statement.
    """

    def __init__(
        self, port: int, count: int, first: bytes, *, drip: bytes = b"", pause: float = 1.0, reads: bool = True
    ) -> None:
        self.closed = 0
        self.received = bytearray()
        self._port, self._count, self._first, self._drip = port, count, first, drip
        self._pause, self._reads = pause, reads
        self._open: list[socket.socket] = []
        self._full, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Crowd:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
        self._thread.start()
        self._full.wait(60)  # a server that takes no more of them has them waiting in its queue
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        for one in self._open:
            one.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._fill()
            self._full.set()
            for one in list(self._open):
                if not self._goes_on(one):
                    self.closed += 1
                    self._open.remove(one)
                    one.close()
            self._stop.wait(self._pause)

    def _fill(self) -> None:
        for _ in range(self._count - len(self._open)):
            if self._stop.is_set():
                return
            one = socket.socket()
            one.settimeout(1.0)
            try:
                one.connect(("127.0.0.1", self._port))
                one.sendall(self._first)
            except OSError:
                self.closed += 1
                one.close()
                continue
            one.setblocking(False)
            self._open.append(one)

    def _goes_on(self, one: socket.socket) -> bool:
        try:
            if self._drip:
                one.send(self._drip)
            if self._reads:
                self.received += (data := one.recv(65536))
                return bool(data)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


def hang_up_after(port: int, sent: bytes, seconds: float, drip: bytes = b"") -> tuple[float, bytes]:
    """Send that, then `drip` four times a second: after how long the server hung up, and what it answered."""
    started, answer = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", port), timeout=0.25) as one:
        one.sendall(sent)
        while time.monotonic() < started + seconds:
            try:
                data = one.recv(65536)
                answer += data
                if not data:
                    return time.monotonic() - started, answer
            except TimeoutError:
                if drip:
                    with contextlib.suppress(OSError):
                        one.send(drip)
            except ConnectionError:
                return time.monotonic() - started, answer
    raise AssertionError(f"the connection is open after {seconds} s; answered: {answer[:200]!r}")
