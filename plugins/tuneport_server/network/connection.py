"""One connection: HTTP by uvicorn and h11, with a time limit on everything that a client could delay."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from http import HTTPStatus
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tuneport_server.limits import ResourceLimits
from tuneport_server.logs import new_id
from tuneport_server.network.connections import Connections
from tuneport_server.network.patience import is_too_slow
from tuneport_server.wire import WireError

CONNECTION = "connection"
"""The key of a request's state that holds its connection."""


class Connection(H11Protocol):
    """A client's connection. Its creator calls `look` about once a second.

    While the application reads a request, `bodies` limits how long that takes. All other waiting is limited here: for a
    head, for a client to read its response, for the rest of a body that nothing reads, for the end.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        limits: ResourceLimits,
        connections: Connections,
    ) -> None:
        super().__init__(config, server_state, {**app_state, CONNECTION: self})
        self._limits, self._connections = limits, connections
        self._pauses, self._unwanted = 0, False
        self._head_bytes, self._head_since = 0, 0.0
        self._mark: tuple[object, ...] = ()
        self._since = time.monotonic()

    @property
    def is_busy(self) -> bool:
        """Is a request in progress?"""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_gone(self) -> bool:
        """Has the client disconnected?"""
        return self.transport is None or self.transport.is_closing()

    def recognize(self, *, known: bool) -> None:
        """Record whether the request in progress has a known access token."""
        self._connections.recognize(self, known=known)

    def expect(self) -> None:
        """Keep an unknown client until `hold` or `release`: its form has started to arrive."""
        self._connections.expect(self)

    def hold(self) -> None:
        """Keep an unknown client until `release`: its request has arrived completely."""
        self._connections.hold(self)

    def release(self) -> None:
        """Record that the response begins."""
        self._connections.release(self)

    def give_up_place(self) -> None:
        """Close, because another connection needs the place."""
        self._unwanted = True
        if self.transport is None:
            return
        if self._head_bytes:
            self._refuse(too_many())
        else:
            self.transport.abort()

    def look(self, now: float) -> None:
        """Close if the client takes too long; `now` is the monotonic clock's time."""
        if self.transport is None:
            return
        phase = self._phase()
        mark = (phase, self.cycle, self._pauses)
        if mark != self._mark:
            self._mark, self._since = mark, now
        waited = now - self._since
        if phase == "head":
            self._look_at_head(now, waited)
        elif phase != "work" and waited > self._limits.silence_seconds:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless another connection has needed the place already."""
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn's annotation: a socket's transport
        if self._unwanted:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head, and pass them on."""
        if self.transport.is_closing():
            return
        before = self.cycle
        if self._phase() == "head":
            self._head_bytes += len(data)
            self._head_since = self._head_since or time.monotonic()
        super().data_received(data)
        if self.cycle is not before:
            self._head_bytes, self._head_since = 0, 0.0

    def pause_writing(self) -> None:
        """Count how often the server waits for the client to read."""
        self._pauses += 1
        super().pause_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._connections.remove(self)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, or too large. Called while an error of h11 is handled."""
        status = getattr(sys.exception(), "error_status_hint", 400)
        if status == 431:
            self._refuse(WireError(431, "The request's head is too large.", code="head_too_large"))
        else:
            self._refuse(WireError(status, msg, code="invalid_http"))

    def _phase(self) -> str:
        if self.transport.is_closing():
            return "end"
        if self.is_busy:
            return "answer" if self.flow.write_paused else "work"
        return "head" if self.conn.their_state is h11.IDLE else "rest of a body"

    def _look_at_head(self, now: float, waited: float) -> None:
        limit = self._limits.head_seconds
        if self._head_since:
            taken = now - self._head_since
            if taken > limit or is_too_slow(self._head_bytes, taken, limit / 2, self._limits.least_rate):
                self._refuse(WireError(408, "The request's head did not arrive in time.", code="request_timeout"))
        elif waited > limit:
            self.transport.close()

    def _refuse(self, error: WireError) -> None:
        """Send an error if no response has started, and close."""
        if not self.is_busy:
            self.transport.write(refusal(error))
        else:
            if not self.cycle.response_started:
                self.transport.write(refusal(error))
            self.cycle.disconnected = True  # what the application still sends is dropped
            self.cycle.message_event.set()
        self.transport.close()


def too_many() -> WireError:
    """Return the error for one connection too many."""
    return WireError(429, "Too many connections are open.", code="rate_limit_exceeded", headers={"retry-after": "2"})


def refusal(error: WireError) -> bytes:
    """Return a complete response that needs no application. The connection is closed after it."""
    body = json.dumps({"error": error.body()}).encode()
    headers = {
        **error.headers,
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-request-id": new_id(),
    }
    phrase = HTTPStatus(error.status).phrase
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {error.status} {phrase}\r\n{head}\r\n".encode() + body
