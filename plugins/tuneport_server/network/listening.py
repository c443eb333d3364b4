"""The listening socket: binding it, and accepting connections."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import psutil
import uvicorn

from tuneport.errors import UsageError
from tuneport_server.limits import ResourceLimits
from tuneport_server.network.connection import Connection, refusal, too_many
from tuneport_server.network.connections import Connections

_BACKLOG = 2048  # connections that the system holds until they are accepted
_AT_ONCE = (
    32  # accepted before heads are read; also a 32nd of the places, so that new ones do not displace each other unread
)
_SILENT_SECONDS = 5
_LOOK_SECONDS = 1.0
_OUT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger(__name__)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; nothing is accepted yet. Raises UsageError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol given, or asyncio leaves Nagle's algorithm on and each small response waits 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(
        socket, "TCP_DEFER_ACCEPT"
    ):  # Linux: a connection is accepted with its first bytes, so silent ones cost less
        with contextlib.suppress(OSError):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _SILENT_SECONDS)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)  # here, because two sockets may be bound to a port, but only one can listen
    except (OSError, OverflowError) as error:
        listening.close()
        raise _listen_error(host, port, error) from error
    listening.setblocking(False)
    return listening


class HttpServer(uvicorn.Server):
    """Uvicorn's server, but it counts connections before they cost anything, and pauses when the system has no
    descriptor left. `on_ready` is called once requests are answered.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        listening: socket.socket,
        limits: ResourceLimits,
        most: int,
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._listening, self._limits, self._on_ready = listening, limits, on_ready
        most = min(limits.connections or most, most)
        self._connections = Connections(most, limits.address_connections)
        self._at_once = max(1, min(_AT_ONCE, most // _AT_ONCE))
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept connections."""
        del sockets
        await super().startup(sockets=[])
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._listening, self._accept)
        self._keep(self._look())
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, and let requests in progress end."""
        del sockets
        self._loop.remove_reader(self._listening)
        self._listening.close()
        await super().shutdown(sockets=[])

    def _accept(self) -> None:
        for _ in range(self._at_once):
            try:
                client, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            if self._connections.admit(peer[0]):
                self._open(client, peer[0])
            else:
                with client, contextlib.suppress(OSError):  # the client may or may not get to read this
                    client.setblocking(False)
                    client.send(refusal(too_many()))

    def _open(self, client: socket.socket, address: str) -> None:
        client.setblocking(False)
        state = self.lifespan.state
        connection = Connection(
            self.config, self.server_state, state, limits=self._limits, connections=self._connections
        )
        self._connections.add(connection, address)
        self._keep(self._connect(connection, client))

    async def _connect(self, connection: Connection, client: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, client)
        except OSError:  # it is closed again
            self._connections.remove(connection)
            client.close()

    def _pause(self, error: OSError) -> None:
        """Accept nothing for a second: the socket stays readable, and an immediate retry would fail again."""
        _log.error("No connection can be accepted: %s.", error.strerror)
        if error.errno in _OUT_OF:
            self._connections.make_room()
        self._loop.remove_reader(self._listening)
        self._loop.call_later(_LOOK_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._listening.fileno() != -1:
            self._loop.add_reader(self._listening, self._accept)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            for one in list(self.server_state.connections):
                if isinstance(one, Connection):
                    one.look(now)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _listen_error(host: str, port: int, error: OSError | OverflowError) -> UsageError:
    what, number = f"Cannot listen on {host} port {port}", getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        holder = _holder(port)
        return UsageError(
            f"{what}: {holder or 'another program'} is already listening there.",
            remedy="Use that server, or choose another port: --port 0 takes a free one."
            if holder
            else "Choose another port: --port 0 takes a free one.",
        )
    if number in (errno.EACCES, errno.EPERM):
        return UsageError(f"{what}: {error}.", remedy="Choose a port above 1023, such as --port 8137.")
    if number == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return UsageError(
            f"{what}: this machine has no such address.",
            remedy="Use for example --host 127.0.0.1 or --host 0.0.0.0",
        )
    return UsageError(f"{what}: {error}.", remedy="Choose another: --port 0 takes a free one.")


def _holder(port: int) -> str | None:
    """Return which `tuneport serve` listens on a port, if the system reports it."""
    try:
        for one in psutil.net_connections("tcp"):
            listens = one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port
            if listens and one.pid not in (None, os.getpid()):
                words = psutil.Process(one.pid).cmdline()
                if "serve" in words and any("tuneport" in word for word in words):
                    return f"`tuneport serve` (process {one.pid})"
    except (psutil.Error, OSError):
        return None
    return None
