"""The access tokens that are known right now: one read of the store for all requests that arrive together."""

from __future__ import annotations

import asyncio

from anyio import CapacityLimiter, to_thread

from tuneport_server.access.tokens import AccessTokens, Known, owner_in


class KnownTokens:
    """Looks up the owners of access tokens. One thread reads the store, however many requests come, with tokens right
    or wrong. So a flood of wrong tokens takes no threads from others.
    """

    def __init__(self, tokens: AccessTokens) -> None:
        self._tokens = tokens
        self._last: Known = ()
        self._limiter: CapacityLimiter | None = None
        self._reading: asyncio.Task[Known] | None = None
        self._next: asyncio.Task[Known] | None = None

    async def owner(self, fingerprint: str) -> str | None:
        """Return the owner of a fingerprint. Tokens that were added or removed before this call are taken into
        account.
        """
        return owner_in(await self._read_known(), fingerprint)

    def was_known(self, fingerprint: str) -> bool:
        """Was it known at the last read? This decides which connections to keep until the next one; it grants
        nothing.
        """
        return owner_in(self._last, fingerprint) is not None

    async def _read_known(self) -> Known:
        if self._next is None:
            self._next = asyncio.create_task(self._read(self._reading))
        return await asyncio.shield(self._next)  # a caller that is canceled leaves the task to the others

    async def _read(self, before: asyncio.Task[Known] | None) -> Known:
        if before is not None:
            await asyncio.wait([before])
        self._reading, self._next = self._next, None  # callers from now on need a later read
        self._limiter = self._limiter or CapacityLimiter(1)
        self._last = await to_thread.run_sync(self._tokens.known, limiter=self._limiter)
        return self._last
