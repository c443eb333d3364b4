"""A proxy on loopback that breaks requests in every way a network or a server can, before or after they count."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BEFORE = ("reset before", "503 before", "page before")  # the server never hears of it
AFTER = ("reset after", "500 after", "timeout after", "truncated after", "half a JSON after", "page after")
FAULTS = (*BEFORE, *AFTER)


class FaultProxy:
    """Passes requests on to `target`, except that creations of jobs suffer `fault`, and lists of jobs lag behind.

    `fault` is one of FAULTS, None, or "random" for a draw at each creation; `lag` is how many of the next lists show
    nothing; `broken_lists` how many fail.
    """

    def __init__(self, target: str, seed: int = 0, timeout: float = 0.25) -> None:
        self.target = urlsplit(target)
        self.fault: str | None = None
        self.path = "/v1/fine_tuning/jobs"
        self.lag = self.broken_lists = 0
        self.timeout = timeout  # longer than the client waits
        self.drawn = random.Random(seed)
        self.suffered: list[str] = []
        self._http = _Quiet(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def draw(self) -> str | None:
        fault = self.drawn.choice(FAULTS) if self.fault == "random" else self.fault
        if fault:
            self.suffered.append(fault)
        return fault


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that go away are what these tests are about."""


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def _pass(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if len(body) < length:  # its client was killed while it sent: no request, and none is passed on
                return self._reset()
            path = urlsplit(self.path).path
            fault = proxy.draw() if self.command == "POST" and path == proxy.path else None
            if fault in BEFORE:
                return self._break(fault, 0, b"")
            status, headers, answer = self._forward(body)
            if fault is not None:
                return self._break(fault, status, answer)
            if self.command == "GET" and path == proxy.path:
                if proxy.broken_lists > 0:
                    proxy.broken_lists -= 1
                    return self._reset()
                if proxy.lag > 0:
                    proxy.lag -= 1
                    answer = json.dumps({"object": "list", "data": [], "has_more": False}).encode()
            return self._send(status, answer, headers)

        do_GET = do_POST = do_DELETE = _pass

        def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            upstream = http.client.HTTPConnection(proxy.target.hostname or "", proxy.target.port, timeout=60)
            with contextlib.closing(upstream):
                kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
                upstream.request(self.command, self.path, body, kept)
                answer = upstream.getresponse()
                headers = {k: v for k, v in answer.getheaders() if k.lower() in ("content-type", "retry-after")}
                return answer.status, headers, answer.read()

        def _break(self, fault: str, status: int, answer: bytes) -> None:
            match fault:
                case "reset before" | "reset after":
                    self._reset()
                case "503 before":
                    self._send(503, b'{"error": {"message": "overloaded"}}', {"Content-Type": "application/json"})
                case "500 after":
                    self._send(500, b'{"error": {"message": "something broke"}}', {"Content-Type": "application/json"})
                case "page before" | "page after":
                    self._send(
                        403 if "before" in fault else 200, b"<html>a gateway</html>", {"Content-Type": "text/html"}
                    )
                case "timeout after":
                    time.sleep(proxy.timeout)
                    self._reset()
                case "truncated after":
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer[: len(answer) // 2])
                    self._reset()
                case "half a JSON after":
                    self._send(status, answer[: len(answer) // 2], {"Content-Type": "application/json"})

        def _reset(self) -> None:
            # Lingering for no time at all makes closing a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RD)
            self.connection.close()

        def _send(self, status: int, answer: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

    return Handler
