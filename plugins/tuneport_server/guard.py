"""What every request passes before any route sees it: the right host, no foreign page, a known token."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuneport_server import frame
from tuneport_server.sessions import COOKIE
from tuneport_server.wire import WireError

if TYPE_CHECKING:
    from tuneport_server.sessions import Sessions
    from tuneport_server.tokens import Tokens

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"same-origin"),
)
_NOTHING = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# What the login form needs, and what takes it. They tell and change nothing without a token.
_OPEN = frozenset({*(("GET", path) for path in frame.OPEN), ("GET", "/login"), ("POST", "/login")})


class Guard:
    """An ASGI application around another: nothing behind it is reached without a token, whatever the path or method,
    but for the login form. The wire wants the token itself, the page the cookie that the form gave for it.

    `hosts` are the names (lower case, without port) by which this server may be called, beside loopback addresses. A
    browser names the page that asks in `Origin`: one that is not of the very server that is asked is refused. `most`
    is how many requests may be under way at the same time.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens, sessions: Sessions, hosts: Collection[str], most: int) -> None:
        self._app = app
        self._tokens, self._sessions = tokens, sessions
        self._hosts = frozenset(hosts)
        self._most = most
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                own = any(name == _NOTHING[0] for name, _ in given)
                message["headers"] = [*given, *_ALWAYS, *(() if own else (_NOTHING,))]
            await send(message)

        if scope["type"] != "http":
            return  # no web socket is served: closing without an answer refuses it
        self._under_way += 1
        try:
            headers = Headers(scope=scope)
            self._check_host(headers)
            owner = await self._owner(scope, headers)
            if owner is None and _wants_page(scope, headers):
                await RedirectResponse("/login", 303)(scope, receive, sent)
                return
            if owner is None and (scope["method"], scope["path"]) not in _OPEN:
                raise _refused("Send the token as the API key (Authorization: Bearer …).", "missing_api_key")
            if self._under_way > self._most:
                raise _busy(self._most)
            scope["state"] = {**scope.get("state", {}), "owner": owner}
            await self._app(scope, receive, sent)
        except WireError as error:
            await error.response()(scope, receive, sent)
        finally:
            self._under_way -= 1

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

    async def _owner(self, scope: Scope, headers: Headers) -> str | None:
        """Whose request it is; None where it brings neither token nor session. Raises WireError for a wrong token."""
        given = headers.getlist("authorization")
        if not given:
            return None if scope["path"].startswith("/v1/") else await self._logged_in(scope, headers)
        scheme, _, token = given[0].partition(" ")
        owner = await run_in_threadpool(self._tokens.owner, token.strip())
        if owner is None or scheme.lower() != "bearer" or len(given) > 1:
            raise _refused("The token is not known here. `tuneport tokens add NAME` makes one.", "invalid_api_key")
        return owner

    async def _logged_in(self, scope: Scope, headers: Headers) -> str | None:
        value = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        if value is None:
            return None
        if scope["method"] not in ("GET", "HEAD") and "origin" not in headers:
            raise WireError(403, "A form of this server's own page says where it comes from.", code="foreign_origin")
        return await run_in_threadpool(self._sessions.owner, value)


def _refused(message: str, code: str) -> WireError:
    return WireError(401, message, code=code, headers={"www-authenticate": "Bearer"})


def _busy(most: int) -> WireError:
    return WireError(429, f"{most} requests are under way.", code="rate_limit_exceeded", headers={"retry-after": "2"})


def _wants_page(scope: Scope, headers: Headers) -> bool:
    """Whether a browser asks for a page to look at, other than the login form."""
    shown = scope["method"] == "GET" and (scope["method"], scope["path"]) not in _OPEN
    return shown and not scope["path"].startswith("/v1/") and "text/html" in headers.get("accept", "")


def _loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
