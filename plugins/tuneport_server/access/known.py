"""Which tokens are known right now, for everybody who asks at the same time with one look into the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread

from tuneport_server.access.tokens import Known, owner_in

if TYPE_CHECKING:
    from tuneport_server.access.tokens import Tokens


class Roster:
    """The known tokens. However many requests come, with tokens right or wrong, one thread looks them up, so that a
    flood of wrong tokens takes nothing from the threads of others.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._last: Known = ()
        self._limiter: CapacityLimiter | None = None
        self._reading: asyncio.Task[Known] | None = None
        self._next: asyncio.Task[Known] | None = None

    async def owner(self, fingerprint: str) -> str | None:
        """The name that a token's fingerprint belongs to, as it was at a moment after this call: what was added or
        removed before counts.
        """
        return owner_in(await self._known(), fingerprint)

    def knew(self, fingerprint: str) -> bool:
        """Whether it was known at the last look. Says whom to keep until the next one, and opens nothing."""
        return owner_in(self._last, fingerprint) is not None

    async def _known(self) -> Known:
        if self._next is None:
            self._next = asyncio.create_task(self._read(self._reading))
        return await asyncio.shield(self._next)  # one that gives up leaves it to the others

    async def _read(self, before: asyncio.Task[Known] | None) -> Known:
        if before is not None:
            await asyncio.wait([before])
        self._reading, self._next = self._next, None  # who comes from now on needs a later look
        self._limiter = self._limiter or CapacityLimiter(1)
        self._last = await to_thread.run_sync(self._tokens.all, limiter=self._limiter)
        return self._last
