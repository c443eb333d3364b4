"""What every request passes before any route sees it: a small head, the right host, no foreign page, a known token."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuneport.errors import TuneportError
from tuneport_server import frame
from tuneport_server.access.sessions import COOKIE
from tuneport_server.access.tokens import Tokens
from tuneport_server.bodies import read_form_body
from tuneport_server.logs import REQUEST, new_id
from tuneport_server.network.connection import CONNECTION, Connection
from tuneport_server.page.login import form_address, token_in
from tuneport_server.wire import WireError, of_tuneport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tuneport_server.access.known import Roster
    from tuneport_server.access.sessions import Sessions
    from tuneport_server.settings import Limits

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"same-origin"),
)
_NOTHING = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# What the login form needs, and what takes it. They tell and change nothing without a token.
_OPEN = frozenset({*(("GET", path) for path in frame.OPEN), ("GET", "/login"), ("POST", "/login")})
_OPEN_SECONDS = 10.0  # that a request without a token waits for its turn
_OPEN_WAITING = 1024
_FORM_SECONDS = 0.5  # that a login's form may take after its head before another takes its place
_REFUSALS = 200  # a second; those beyond wait, so that a flood of wrong tokens leaves time for other work
_REFUSAL_SECONDS = 5.0  # that one waits at most
_HEADERS = 100
_HEAD_BYTES = 32 * 2**10

_log = logging.getLogger(__name__)


class Guard:
    """An ASGI application around another: nothing behind it is reached without a token, whatever the path or method,
    but for the login form. The wire wants the token itself, the page the cookie that the form gave for it.

    `hosts` are the names (lower case, without port) by which this server may be called, beside loopback addresses. A
    browser names the page that asks in `Origin`: one that is not of the very server that is asked is refused. Requests
    with a known token are counted apart from those without, and take nothing from each other. Every answer has the
    request's id in `x-request-id`, and so have the lines of the log that are about it.
    """

    def __init__(
        self, app: ASGIApp, roster: Roster, sessions: Sessions, hosts: Collection[str], limits: Limits
    ) -> None:
        self._app = app
        self._roster, self._sessions = roster, sessions
        self._hosts = frozenset(hosts)
        self._limits = limits
        self._known = 0  # requests under way with a token
        self._open_waiting = 0
        self._open = asyncio.Semaphore(limits.open_requests)
        self._refused_until = 0.0  # when the refusals so far would be over, one after another

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no web socket is served: closing without an answer refuses it
        id_, begun = new_id(), False
        connection: Connection | None = scope.get("state", {}).get(CONNECTION)
        REQUEST.set(id_)

        async def sent(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                if connection is not None:
                    connection.release()
                given = [one for one in message.get("headers", ()) if one[0] != b"x-request-id"]
                own = any(name == _NOTHING[0] for name, _ in given)
                always = (*_ALWAYS, (b"x-request-id", id_.encode()))
                message["headers"] = [*given, *always, *(() if own else (_NOTHING,))]
            await send(message)

        try:
            await self._admit(scope, receive, sent, connection)
        except WireError as error:
            if error.status == 401:
                await self._pace()
            await error.response()(scope, receive, sent)
        except TuneportError as error:
            log_failure(scope["method"], scope["path"], error)
            await of_tuneport(error).response()(scope, receive, sent)
        except Exception:
            if begun:
                raise  # an answer of its own says so already, or is cut off; uvicorn writes it into the log
            _log.exception("%s %r", scope["method"], scope["path"][:200])
            await mistake().response()(scope, receive, sent)

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
            raise _refused("Send the token as the API key (Authorization: Bearer …).", "missing_api_key")
        known = owner is not None
        if not known:
            receive, known = await self._arrive(scope, receive, connection)
        async with self._counted() if known else self._turn(connection):
            scope["state"] = {**scope.get("state", {}), "owner": owner}
            await self._app(scope, receive, send)

    async def _arrive(self, scope: Scope, receive: Receive, connection: Connection | None) -> tuple[Receive, bool]:
        """Wait for the whole request of a stranger, who takes nobody's turn meanwhile, and whether it is a login with a
        known token, which waits for no stranger. A form that does not follow its head at once makes way first.
        """
        body = await self._form(scope, receive, connection) if scope["method"] == "POST" else None
        if connection is not None:
            connection.hold()
        if body is None:
            return receive, False
        known = await self._known_owner(Tokens.fingerprint(token_in(body)), connection) is not None
        if connection is not None:
            connection.recognize(known=known)
        parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def arrived() -> Message:
            return parts.pop() if parts else await receive()

        return arrived, known

    async def _form(self, scope: Scope, receive: Receive, connection: Connection | None) -> bytes:
        if connection is None:
            return await read_form_body(Request(scope, receive), self._limits)
        connection.expect()
        slow = asyncio.get_running_loop().call_later(_FORM_SECONDS, connection.release)
        try:
            return await read_form_body(Request(scope, receive), self._limits)
        finally:
            slow.cancel()

    async def _pace(self) -> None:
        now = asyncio.get_running_loop().time()
        self._refused_until = max(self._refused_until, now - 1.0) + 1 / _REFUSALS
        wait = min(self._refused_until - now, _REFUSAL_SECONDS)
        self._refused_until = now + wait
        if wait > 0:
            await asyncio.sleep(wait)

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        most = self._limits.requests
        if self._known >= most:
            raise _busy(most)
        self._known += 1
        try:
            yield
        finally:
            self._known -= 1

    @asynccontextmanager
    async def _turn(self, connection: Connection | None) -> AsyncIterator[None]:
        """A turn among the requests without a token, in the order of their arrival. Those who have gone take none."""
        if self._open_waiting >= _OPEN_WAITING:
            raise _busy(_OPEN_WAITING)
        self._open_waiting += 1
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await self._open.acquire()
        except TimeoutError:
            raise _busy(self._limits.open_requests) from None
        finally:
            self._open_waiting -= 1
        try:
            if connection is not None and connection.gone:
                raise WireError(400, "The request was broken off.")
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
                "This server does not go by the name in the Host header. "
                "Who runs it can allow a name: tuneport serve --allow-host NAME",
                code="unknown_host",
            )
        for origin in headers.getlist("origin"):
            if origin.lower() not in (f"http://{host}", f"https://{host}"):
                raise WireError(403, "Requests from pages of other sites are refused.", code="foreign_origin")

    async def _owner(self, scope: Scope, headers: Headers, connection: Connection | None) -> str | None:
        """Whose request it is; None where it brings neither token nor session. Raises WireError for a wrong token."""
        given = headers.getlist("authorization")
        if not given:
            return None if scope["path"].startswith("/v1/") else await self._logged_in(scope, headers, connection)
        scheme, _, token = given[0].partition(" ")
        owner = await self._known_owner(Tokens.fingerprint(token.strip()), connection)
        if owner is None or scheme.lower() != "bearer" or len(given) > 1:
            raise _refused("The token is not known here. `tuneport tokens add NAME` makes one.", "invalid_api_key")
        return owner

    async def _logged_in(self, scope: Scope, headers: Headers, connection: Connection | None) -> str | None:
        value = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        if value is None:
            return None
        if scope["method"] not in ("GET", "HEAD") and "origin" not in headers:
            raise WireError(403, "A form of this server's own page says where it comes from.", code="foreign_origin")
        fingerprint = self._sessions.fingerprint(value)
        return None if fingerprint is None else await self._known_owner(fingerprint, connection)

    async def _known_owner(self, fingerprint: str, connection: Connection | None) -> str | None:
        if connection is not None and self._roster.knew(fingerprint):
            connection.recognize(known=True)  # so that a crowd of newcomers does not displace it meanwhile
        return await self._roster.owner(fingerprint)


def log_failure(method: str, path: str, error: BaseException) -> None:
    """Write down an error that is ours and expected, such as a full disk, with its cure."""
    _log.error("%s %r: %s", method, path[:200], error)


def mistake() -> WireError:
    """The answer to a request that found a fault of ours. The connection is closed behind it, and says so."""
    return WireError(
        500,
        "The server made a mistake; its log says which, by x-request-id.",
        code="server_error",
        headers={"connection": "close"},
    )


def _check_head(scope: Scope, headers: Headers) -> None:
    given = scope["headers"]
    if scope["http_version"] not in ("1.0", "1.1"):
        raise WireError(505, "This server speaks HTTP/1.1.", code="invalid_http", headers={"connection": "close"})
    size = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(name) + len(value) for name, value in given)
    if len(given) > _HEADERS or size > _HEAD_BYTES:
        raise WireError(431, "The request's head is too large.", code="head_too_large", headers={"connection": "close"})
    # A proxy in front might read the body's end from the one, and this server from the other.
    if "transfer-encoding" in headers and "content-length" in headers:
        raise WireError(
            400, "Send Transfer-Encoding or Content-Length.", code="invalid_http", headers={"connection": "close"}
        )


def _refused(message: str, code: str) -> WireError:
    return WireError(401, message, code=code, headers={"www-authenticate": "Bearer"})


def _busy(most: int) -> WireError:
    return WireError(429, f"{most} requests are under way.", code="rate_limit_exceeded", headers={"retry-after": "2"})


def _wants_page(scope: Scope, headers: Headers) -> bool:
    """Whether a browser asks for a page to look at, other than the login form."""
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
