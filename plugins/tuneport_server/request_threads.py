"""Threads for expensive requests, with a share for each access token. Other requests never wait for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from tuneport_server.limits import ResourceLimits
from tuneport_server.wire import WireError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_LOOK_SECONDS = 1.0  # between two checks whether a waiting client is still connected


class RequestThreads:
    """A pool of `limits.threads` threads. One access token uses at most half of them, and has at most
    `limits.thread_queue` requests that wait for one.

    Quick work, such as looking up a row, runs in the framework's own threads and never waits for this pool.
    """

    def __init__(self, limits: ResourceLimits) -> None:
        self._threads = limits.threads
        self._share = max(1, limits.threads // 2)
        self._waiting = limits.thread_queue
        self._running: Counter[str] = Counter()
        self._queued: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self._executor = ThreadPoolExecutor(limits.threads, thread_name_prefix="expensive")

    async def run(self, request: Request, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call `work` in a thread, and return its result. Raises WireError 429 if too many requests of the token wait,
        and 400 if the client has disconnected before its turn: then the work is not started.
        """
        owner = str(request.state.owner)
        if self._queued[owner] >= self._waiting:
            raise WireError(
                429,
                f"{self._queued[owner]} requests of this access token are already waiting.",
                code="rate_limit_exceeded",
                headers={"retry-after": "2"},
            )
        await self._take(request, owner)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, partial(work, *args, **kwargs))
        finally:
            self._running[owner] -= 1
            if not self._running[owner]:
                del self._running[owner]
            async with self._changed:
                self._changed.notify_all()

    async def _take(self, request: Request, owner: str) -> None:
        self._queued[owner] += 1
        try:
            async with self._changed:
                while self._running[owner] >= self._share or self._running.total() >= self._threads:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), _LOOK_SECONDS)
                    if await request.is_disconnected():
                        raise WireError(400, "The client closed the connection.")
                self._running[owner] += 1
        finally:
            self._queued[owner] -= 1
            if not self._queued[owner]:
                del self._queued[owner]


def expensive(handler: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Make a route's handler run in the server's pool instead of the framework's threads."""

    async def run(request: Request) -> Response:
        threads: RequestThreads = request.app.state.server.threads
        return await threads.run(request, handler, request)

    run.__doc__ = handler.__doc__
    return run
