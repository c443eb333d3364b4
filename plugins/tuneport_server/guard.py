"""What every request must pass before a route sees it: a small head, the right host and origin, a known access
token.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuneport.errors import TuneportError
from tuneport_server.access.known import KnownTokens
from tuneport_server.access.sessions import COOKIE, Sessions
from tuneport_server.access.tokens import fingerprint
from tuneport_server.bodies import read_form_body
from tuneport_server.limits import ResourceLimits
from tuneport_server.logs import REQUEST, new_id
from tuneport_server.network.connection import CONNECTION, Connection
from tuneport_server.page import frame
from tuneport_server.page.login import form_address, token_in
from tuneport_server.wire import WireError, from_tuneport

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"same-origin"),
)
_NOTHING = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# What the login form needs, and what receives it. Without a token they reveal and change nothing.
_OPEN = frozenset({*(("GET", path) for path in frame.OPEN), ("GET", "/login"), ("POST", "/login")})
_OPEN_SECONDS = 10.0  # for a request without a token to wait for its turn
_OPEN_WAITING = 1024
_FORM_SECONDS = 0.5  # for a login's form to arrive after its head, before another connection may take its place
_REFUSALS = 200  # per second; more must wait, so that a flood of wrong tokens leaves time for other work
_REFUSAL_SECONDS = 5.0  # for one of them to wait, at most
_HEADERS = 100
_HEAD_BYTES = 32 * 2**10

_log = logging.getLogger(__name__)


class Guard:
    """An ASGI application around another. Nothing behind it can be reached without an access token, whatever the path
    or method, except for the login form. The wire needs the token itself, the page the cookie that the form returns for
    it.

    `hosts` are the names (lowercase, without port) that the Host header may have, in addition to loopback addresses. A
    browser sends the page that makes a request in `Origin`; a page of another server is refused. Requests with a known
    token and those without are counted separately and take nothing from each other. Every response has the request's id
    in `x-request-id`, as have the lines of the log about it.
    """

    def __init__(
        self, app: ASGIApp, known: KnownTokens, sessions: Sessions, hosts: Collection[str], limits: ResourceLimits
    ) -> None:
        self._app = app
        self._tokens, self._sessions = known, sessions
        self._hosts = frozenset(hosts)
        self._limits = limits
        self._known = 0  # requests with a token in progress
        self._open_waiting = 0
        self._open = asyncio.Semaphore(limits.open_requests)
        self._refused_until = 0.0  # when the refusals so far would be over, one after another

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # web sockets are not supported: closing without a response refuses them
        id_, started = new_id(), False
        connection: Connection | None = scope.get("state", {}).get(CONNECTION)
        REQUEST.set(id_)

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if connection is not None:
                    connection.release()
                given = [one for one in message.get("headers", ()) if one[0] != b"x-request-id"]
                own = any(name == _NOTHING[0] for name, _ in given)
                always = (*_ALWAYS, (b"x-request-id", id_.encode()))
                message["headers"] = [*given, *always, *(() if own else (_NOTHING,))]
            await send(message)

        try:
            await self._admit(scope, receive, send_with_id, connection)
        except WireError as error:
            if error.status == 401:
                await self._throttle()
            await error.response()(scope, receive, send_with_id)
        except TuneportError as error:
            log_failure(scope["method"], scope["path"], error)
            await from_tuneport(error).response()(scope, receive, send_with_id)
        except Exception:
            if started:
                raise  # a response has started already: uvicorn logs the error
            _log.exception("%s %r", scope["method"], scope["path"][:200])
            await internal_error().response()(scope, receive, send_with_id)

    async def _admit(self, scope: Scope, receive: Receive, send: Send, connection: Connection | None) -> None:
        headers = Headers(scope=scope)
        owner, public = None, (scope["method"], scope["path"]) in _OPEN
        try:
            _check_head(scope, headers)
            self._check_host(headers)
            owner = await self._owner(scope, headers, connection)
        finally:
            if connection is not None:
                connection.recognize(known=owner is not None)
        if owner is None and _wants_page(scope, headers):
            await RedirectResponse(_login_address(scope), 303)(scope, receive, send)
            return
        if owner is None and not public:
            raise _refusal("Send the access token as the API key (Authorization: Bearer …).", "missing_api_key")
        known = owner is not None
        if not known:
            receive, known = await self._arrive(scope, receive, connection)
        async with self._count_request() if known else self._turn(connection):
            scope["state"] = {**scope.get("state", {}), "owner": owner}
            await self._app(scope, receive, send)

    async def _arrive(self, scope: Scope, receive: Receive, connection: Connection | None) -> tuple[Receive, bool]:
        """Receive the complete request of an unknown client, before it takes a turn. Returns also whether it is a login
        with a known token, which needs no turn. A form that does not follow its head at once is the first to be
        replaced.
        """
        body = await self._form(scope, receive, connection) if scope["method"] == "POST" else None
        if connection is not None:
            connection.hold()
        if body is None:
            return receive, False
        known = await self._known_owner(fingerprint(token_in(body)), connection) is not None
        if connection is not None:
            connection.recognize(known=known)
        parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return parts.pop() if parts else await receive()

        return receive_again, known

    async def _form(self, scope: Scope, receive: Receive, connection: Connection | None) -> bytes:
        if connection is None:
            return await read_form_body(Request(scope, receive), self._limits)
        connection.expect()
        slow = asyncio.get_running_loop().call_later(_FORM_SECONDS, connection.release)
        try:
            return await read_form_body(Request(scope, receive), self._limits)
        finally:
            slow.cancel()

    async def _throttle(self) -> None:
        now = asyncio.get_running_loop().time()
        self._refused_until = max(self._refused_until, now - 1.0) + 1 / _REFUSALS
        wait = min(self._refused_until - now, _REFUSAL_SECONDS)
        self._refused_until = now + wait
        if wait > 0:
            await asyncio.sleep(wait)

    @asynccontextmanager
    async def _count_request(self) -> AsyncIterator[None]:
        most = self._limits.requests
        if self._known >= most:
            raise _busy_error(most)
        self._known += 1
        try:
            yield
        finally:
            self._known -= 1

    @asynccontextmanager
    async def _turn(self, connection: Connection | None) -> AsyncIterator[None]:
        """Wait for a turn among the requests without a token, in order of arrival. Clients that are gone take none."""
        if self._open_waiting >= _OPEN_WAITING:
            raise _busy_error(_OPEN_WAITING)
        self._open_waiting += 1
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await self._open.acquire()
        except TimeoutError:
            raise _busy_error(self._limits.open_requests) from None
        finally:
            self._open_waiting -= 1
        try:
            if connection is not None and connection.is_gone:
                raise WireError(400, "The client closed the connection.")
            yield
        finally:
            self._open.release()

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        host = hosts[0].lower() if len(hosts) == 1 else ""
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if not (name in self._hosts or _loopback(name)):
            raise WireError(
                403,
                "Host header not allowed. To allow it, restart the server with: tuneport serve --allow-host NAME",
                code="unknown_host",
            )
        for origin in headers.getlist("origin"):
            if origin.lower() not in (f"http://{host}", f"https://{host}"):
                raise WireError(
                    403, "Origin not allowed: requests from pages of other sites are refused.", code="foreign_origin"
                )

    async def _owner(self, scope: Scope, headers: Headers, connection: Connection | None) -> str | None:
        """Return a request's owner; None if it has neither token nor session. Raises WireError for a wrong token."""
        given = headers.getlist("authorization")
        if not given:
            return None if scope["path"].startswith("/v1/") else await self._logged_in(scope, headers, connection)
        scheme, _, token = given[0].partition(" ")
        owner = await self._known_owner(fingerprint(token.strip()), connection)
        if owner is None or scheme.lower() != "bearer" or len(given) > 1:
            raise _refusal("Unknown access token. Create one: tuneport access add NAME", "invalid_api_key")
        return owner

    async def _logged_in(self, scope: Scope, headers: Headers, connection: Connection | None) -> str | None:
        value = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        if value is None:
            return None
        if scope["method"] not in ("GET", "HEAD") and "origin" not in headers:
            raise WireError(403, "Missing Origin header.", code="foreign_origin")
        known = self._sessions.fingerprint(value)
        return None if known is None else await self._known_owner(known, connection)

    async def _known_owner(self, hashed: str, connection: Connection | None) -> str | None:
        if connection is not None and self._tokens.was_known(hashed):
            connection.recognize(known=True)  # so that new connections do not displace it meanwhile
        return await self._tokens.owner(hashed)


def log_failure(method: str, path: str, error: BaseException) -> None:
    """Log an expected error on the server's side, such as a full disk, with its remedy."""
    _log.error("%s %r: %s", method, path[:200], error)


def internal_error() -> WireError:
    """Return the error for a bug of the server. The connection is closed after it."""
    return WireError(
        500,
        "Internal server error; see the server log, by x-request-id.",
        code="server_error",
        headers={"connection": "close"},
    )


def _check_head(scope: Scope, headers: Headers) -> None:
    given = scope["headers"]
    if scope["http_version"] not in ("1.0", "1.1"):
        raise WireError(
            505, "This server supports HTTP/1.1 only.", code="invalid_http", headers={"connection": "close"}
        )
    size = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(name) + len(value) for name, value in given)
    if len(given) > _HEADERS or size > _HEAD_BYTES:
        raise WireError(431, "The request's head is too large.", code="head_too_large", headers={"connection": "close"})
    # A proxy in front might take the body's length from one of them, and this server from the other.
    if "transfer-encoding" in headers and "content-length" in headers:
        raise WireError(
            400,
            "Send Transfer-Encoding or Content-Length, not both.",
            code="invalid_http",
            headers={"connection": "close"},
        )


def _refusal(message: str, code: str) -> WireError:
    return WireError(401, message, code=code, headers={"www-authenticate": "Bearer"})


def _busy_error(most: int) -> WireError:
    return WireError(
        429, f"{most} requests are in progress already.", code="rate_limit_exceeded", headers={"retry-after": "2"}
    )


def _wants_page(scope: Scope, headers: Headers) -> bool:
    """Does a browser request a page, other than the login form?"""
    shown = scope["method"] == "GET" and (scope["method"], scope["path"]) not in _OPEN
    return shown and not scope["path"].startswith("/v1/") and "text/html" in headers.get("accept", "")


def _login_address(scope: Scope) -> str:
    return form_address(scope["path"], scope.get("query_string", b"").decode("latin-1"))


def _loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
