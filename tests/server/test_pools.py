"""Expensive requests: limited in number, shared between tokens, and not started for clients that have disconnected."""

from __future__ import annotations

import asyncio
import threading

import pytest
from starlette.requests import Request

from tuneport_server.limits import ResourceLimits
from tuneport_server.request_threads import RequestThreads
from tuneport_server.wire import WireError


def request_of(owner: str, *, gone: bool = False) -> Request:
    async def receive() -> dict[str, str]:
        if not gone:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "state": {"owner": owner}}, receive)


def test_one_token_has_half_of_the_threads_and_a_bounded_queue() -> None:
    async def attack() -> tuple[int, str, list[object], int]:
        pool, release, started = RequestThreads(ResourceLimits(threads=4, thread_queue=6)), threading.Event(), []

        def slow() -> str:
            started.append(1)
            release.wait(60)
            return "slow"

        asked = [asyncio.create_task(pool.run(request_of("greedy"), slow)) for _ in range(45)]
        quick = await asyncio.wait_for(pool.run(request_of("other"), lambda: "quick"), 60)
        at_once = len(started)
        release.set()
        return at_once, quick, await asyncio.gather(*asked, return_exceptions=True), len(started)

    at_once, quick, answers, started = asyncio.run(attack())
    assert quick == "quick"
    assert at_once <= 2
    refused = [one for one in answers if isinstance(one, WireError)]
    assert {(one.status, one.headers["retry-after"]) for one in refused} == {(429, "2")}
    assert answers.count("slow") == started
    assert 6 <= started <= 8
    assert len(refused) == 45 - started


def test_work_of_a_client_that_has_disconnected_is_not_started() -> None:
    async def leave() -> list[str]:
        pool, release, done = RequestThreads(ResourceLimits(threads=2)), threading.Event(), []
        busy = asyncio.create_task(pool.run(request_of("one"), release.wait, 60))
        await asyncio.sleep(0)
        with pytest.raises(WireError, match="closed the connection"):
            await asyncio.wait_for(pool.run(request_of("one", gone=True), done.append, "started"), 60)
        release.set()
        await busy
        await pool.run(request_of("one"), done.append, "later")
        return done

    assert asyncio.run(leave()) == ["later"]
