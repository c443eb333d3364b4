"""Log in and out of the page, and come back to the address that was asked for."""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tuneport_server.access.sessions import COOKIE, LIFE_SECONDS
from tuneport_server.bodies import form_fields, read_fields
from tuneport_server.network.connection import CONNECTION, Connection
from tuneport_server.page.frame import document
from tuneport_server.page.markup import tag
from tuneport_server.server import server_of
from tuneport_server.wire import WireError

# Visible ASCII without a backslash: a browser drops tabs and line ends and reads "\" as "/", so "/\tevil" is a host.
_LOCAL = re.compile(r"/(?!/)[!-\[\]-~]{0,2000}")
_FORMS = ("/login", "/logout")


async def login(request: Request) -> Response:
    """`GET /login` shows the form, `POST /login` takes the token and goes on to the path in `next`."""
    if request.method == "GET":
        return _form(_local(request.query_params.get("next", "")))
    server = server_of(request)
    fields = await read_fields(request, server.limits)
    goal = _local(fields.get("next", ""))
    fingerprint = server.tokens.fingerprint(_token(fields))
    if await server.roster.owner(fingerprint) is None:
        return _form(goal, "The token is not known here.", 401)
    connection: Connection | None = request.scope["state"].get(CONNECTION)
    if connection is not None:
        connection.recognize(known=True)
    answer = RedirectResponse(goal, 303)
    answer.set_cookie(COOKIE, server.sessions.open(fingerprint), max_age=LIFE_SECONDS, httponly=True, samesite="strict")
    return answer


async def logout(request: Request) -> Response:
    """`POST /logout`."""
    server_of(request).sessions.close(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def token_in(body: bytes) -> str:
    """The token in a login's form; empty where there is none, or no form."""
    try:
        return _token(form_fields(body))
    except WireError:
        return ""


def form_address(path: str, query: str) -> str:
    """The login form's address, which remembers the path and query that a browser asked for."""
    goal = _local(quote(path) + (f"?{query}" if query else ""))
    return "/login" if goal == "/" else f"/login?next={quote(goal, safe='/')}"


def _token(fields: dict[str, str]) -> str:
    return fields.get("token", "").strip()


def _local(address: str) -> str:
    """The address where it is a path of this server, else `/`: a login must lead to no other site."""
    local = _LOCAL.fullmatch(address) and not address.startswith(_FORMS)
    return address if local else "/"


def _form(goal: str, wrong: str = "", status: int = 200) -> Response:
    form = tag(
        "form",
        tag("h1", tag("span", class_="mark"), "tuneport"),
        tag("label", "Token", for_="token"),
        tag(
            "input",
            type="password",
            name="token",
            id="token",
            autocomplete="current-password",
            required=True,
            autofocus=True,
        ),
        tag("input", type="hidden", name="next", value=goal) if goal != "/" else "",
        tag("p", wrong, class_="error", role="alert") if wrong else "",
        tag("button", "Log in", type="submit", class_="first"),
        tag("p", tag("code", "tuneport tokens add NAME"), " makes a token on the machine that serves.", class_="quiet"),
        method="post",
        action="/login",
        class_="card login",
    )
    return document("Log in", form, None, status=status)


ROUTES = [
    Route("/login", login, methods=["GET", "POST"]),
    Route("/logout", logout, methods=["POST"]),
]
