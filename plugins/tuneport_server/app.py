"""The application: its routes, and what becomes of an error."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from tuneport.errors import TuneportError
from tuneport_server import chat, creation, files, frame, jobs, login, models, page, playground, responses, uploads
from tuneport_server.guard import Guard, log_failure, mistake
from tuneport_server.server import Server
from tuneport_server.wire import WireError, of_tuneport

_ROOMS = (files, uploads, creation, jobs, models, chat, responses, login, page, playground, frame)


def application(server: Server, hosts: Collection[str] = ()) -> Guard:
    """The ASGI application of a server: the wire's routes behind the guard, and nothing else."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        server.trainer.start()
        server.checks.start()
        server.starts.start()
        try:
            yield
        finally:
            await run_in_threadpool(server.desks.close)
            await run_in_threadpool(server.checks.stop)
            await run_in_threadpool(server.starts.stop)
            await run_in_threadpool(server.trainer.stop)
            server.store.close()

    app = Starlette(
        routes=[route for room in _ROOMS for route in room.ROUTES],
        lifespan=lifespan,
        exception_handlers={
            WireError: _of_wire,
            TuneportError: _of_tuneport,
            HTTPException: _of_http,
            Exception: _of_anything,
        },
    )
    app.router.redirect_slashes = False
    app.state.server = server
    return Guard(app, server.roster, server.sessions, hosts, server.limits)


async def _of_wire(request: Request, error: Exception) -> Response:
    assert isinstance(error, WireError)
    if error.status >= 500:
        log_failure(request.method, request.url.path, error.__cause__ or error)
    browser = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/")
    return frame.problem(error) if browser else error.response()


async def _of_tuneport(request: Request, error: Exception) -> Response:
    assert isinstance(error, TuneportError)
    known = of_tuneport(error)
    known.__cause__ = error
    return await _of_wire(request, known)


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = f"{request.method[:20]} {request.url.path[:200]}"
    message = f"This server has no {said}." if error.status_code in (404, 405) else str(error.detail)
    headers = {"allow": _allowed(request)} if error.status_code == 405 else error.headers
    known = WireError(error.status_code, message, code="unknown_url", headers=headers)
    return await _of_wire(request, known)


def _allowed(request: Request) -> str:
    """The methods of a path, which several routes may share; the router names those of the first alone."""
    routes = [one for one in request.app.routes if one.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for one in routes for method in one.methods or ()}))


async def _of_anything(_: Request, __: Exception) -> Response:
    # Starlette raises it again after this answer, so that it stands in the log, with the request's id.
    return mistake().response()
