"""What every request passes before any route sees it: the right host, no foreign page, a known token."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuneport_server.wire import WireError

if TYPE_CHECKING:
    from tuneport_server.tokens import Tokens

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class Guard:
    """An ASGI application around another: nothing behind it is reached without a token, whatever the path or method.

    `hosts` are the names (lower case, without port) by which this server may be called, beside loopback addresses. A
    browser names the page that asks in `Origin`: one that is not of the very server that is asked is refused. `most`
    is how many requests may be under way at the same time.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens, hosts: Collection[str], most: int) -> None:
        self._app = app
        self._tokens = tokens
        self._hosts = frozenset(hosts)
        self._most = most
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_ALWAYS]
            await send(message)

        if scope["type"] != "http":
            return  # no web socket is served: closing without an answer refuses it
        self._under_way += 1
        try:
            await self._admit(scope)
            await self._app(scope, receive, sent)
        except WireError as error:
            await error.response()(scope, receive, sent)
        finally:
            self._under_way -= 1

    async def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._check_host(headers)
        scope["state"] = {**scope.get("state", {}), "owner": await self._owner(headers)}
        if self._under_way > self._most:
            raise WireError(
                429,
                f"{self._most} requests are under way.",
                code="rate_limit_exceeded",
                headers={"retry-after": "2"},
            )

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

    async def _owner(self, headers: Headers) -> str:
        given = headers.getlist("authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or not token.strip():
            raise _refused("No token was given: send it as the API key (Authorization: Bearer …).", "missing_api_key")
        owner = await run_in_threadpool(self._tokens.owner, token.strip())
        if owner is None:
            raise _refused("The token is not known here. `tuneport tokens add NAME` makes one.", "invalid_api_key")
        return owner


def _refused(message: str, code: str) -> WireError:
    return WireError(401, message, code=code, headers={"www-authenticate": "Bearer"})


def _loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
