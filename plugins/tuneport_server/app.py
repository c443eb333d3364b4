"""The ASGI application: its routes, and how errors become responses."""

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
from tuneport_server.guard import Guard, internal_error, log_failure
from tuneport_server.page import file, frame, job, login, overview, playground
from tuneport_server.routes import chat, creation, files, jobs, models, responses, uploads
from tuneport_server.server import Server
from tuneport_server.wire import WireError, from_tuneport

WIRE = (files, uploads, creation, jobs, models, chat, responses)
PAGES = (login, overview, job, file, playground, frame)


def application(server: Server, hosts: Collection[str] = ()) -> Guard:
    """Return the ASGI application of a server: all routes, behind the guard."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        server.trainer.start()
        try:
            yield
        finally:
            await run_in_threadpool(server.models.close)
            await run_in_threadpool(server.trainer.stop)
            server.close()

    app = Starlette(
        routes=[route for module in (*WIRE, *PAGES) for route in module.ROUTES],
        lifespan=lifespan,
        exception_handlers={
            WireError: _of_wire,
            TuneportError: _of_tuneport,
            HTTPException: _answer_http_error,
            Exception: _of_anything,
        },
    )
    app.router.redirect_slashes = False
    app.state.server = server
    return Guard(app, server.known, server.sessions, hosts, server.limits)


async def _of_wire(request: Request, error: Exception) -> Response:
    assert isinstance(error, WireError)
    if error.status >= 500:
        log_failure(request.method, request.url.path, error.__cause__ or error)
    browser = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/")
    return frame.problem(error) if browser else error.response()


async def _of_tuneport(request: Request, error: Exception) -> Response:
    assert isinstance(error, TuneportError)
    known = from_tuneport(error)
    known.__cause__ = error
    return await _of_wire(request, known)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    asked = f"{request.method[:20]} {request.url.path[:200]}"
    message = f"Unknown URL or method: {asked}." if error.status_code in (404, 405) else str(error.detail)
    headers = {"allow": _allowed_methods(request)} if error.status_code == 405 else error.headers
    known = WireError(error.status_code, message, code="unknown_url", headers=headers)
    return await _of_wire(request, known)


def _allowed_methods(request: Request) -> str:
    """Return the methods of a path, which several routes may share; the router lists only those of the first."""
    routes = [one for one in request.app.routes if one.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for one in routes for method in one.methods or ()}))


async def _of_anything(_: Request, __: Exception) -> Response:
    # Starlette raises it again after this response, so that it is logged, with the request's id.
    return internal_error().response()
