"""Bounded threads for expensive requests, with a share for each token: cheap requests never wait for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from tuneport_server.wire import WireError

if TYPE_CHECKING:
    from tuneport_server.settings import Limits

_P = ParamSpec("_P")
_T = TypeVar("_T")
_LOOK_SECONDS = 1.0  # between two looks whether a client that waits is still there


class Pool:
    """`threads` threads, of which one token uses at most half, and `waiting` requests of a token that wait for them.

    Quick work, such as looking up a row, runs in the framework's own threads and never waits for this pool.
    """

    def __init__(self, limits: Limits) -> None:
        self._threads = limits.threads
        self._share = max(1, limits.threads // 2)
        self._waiting = limits.thread_queue
        self._running: Counter[str] = Counter()
        self._queued: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self._executor = ThreadPoolExecutor(limits.threads, thread_name_prefix="expensive")

    async def run(self, request: Request, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The result of `work`, called in a thread. Raises WireError 429 where too many requests of the token wait, and
        400 where the client has gone before its turn came: the work is not started then.
        """
        owner = str(request.state.owner)
        if self._queued[owner] >= self._waiting:
            raise WireError(
                429,
                f"{self._queued[owner]} requests of this token wait for their turn already.",
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
                        raise WireError(400, "The request was broken off.")
                self._running[owner] += 1
        finally:
            self._queued[owner] -= 1
            if not self._queued[owner]:
                del self._queued[owner]


def expensive(handler: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """A route's handler, run in the pool of its server instead of the framework's threads."""

    async def run(request: Request) -> Response:
        pool: Pool = request.app.state.server.pool
        return await pool.run(request, handler, request)

    run.__doc__ = handler.__doc__
    return run
