"""Log in and out of the page, and return to the address that was requested."""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tuneport.plugin import html
from tuneport_server.access.sessions import COOKIE, LIFE_SECONDS
from tuneport_server.access.tokens import fingerprint
from tuneport_server.bodies import form_fields, read_fields
from tuneport_server.network.connection import CONNECTION, Connection
from tuneport_server.page.frame import document
from tuneport_server.server import server_of
from tuneport_server.wire import WireError

# Visible ASCII without a backslash: a browser drops tabs and line ends and reads "\" as "/", so "/\tevil" is a host.
_LOCAL = re.compile(r"/(?!/)[!-\[\]-~]{0,2000}")
_FORMS = ("/login", "/logout")


async def login(request: Request) -> Response:
    """`GET /login` shows the form, `POST /login` takes the access token and redirects to the path in `next`."""
    if request.method == "GET":
        return _form(_local(request.query_params.get("next", "")))
    server = server_of(request)
    fields = await read_fields(request, server.limits)
    goal = _local(fields.get("next", ""))
    hashed = fingerprint(_token(fields))
    if await server.known.owner(hashed) is None:
        return _form(goal, "Unknown access token.", 401)
    connection: Connection | None = request.scope["state"].get(CONNECTION)
    if connection is not None:
        connection.recognize(known=True)
    answer = RedirectResponse(goal, 303)
    answer.set_cookie(COOKIE, server.sessions.open(hashed), max_age=LIFE_SECONDS, httponly=True, samesite="strict")
    return answer


async def logout(request: Request) -> Response:
    """`POST /logout`."""
    server_of(request).sessions.close(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def token_in(body: bytes) -> str:
    """Return the access token in a login form; empty if there is none."""
    try:
        return _token(form_fields(body))
    except WireError:
        return ""


def form_address(path: str, query: str) -> str:
    """Return the address of the login form that leads back to a path and query."""
    goal = _local(quote(path) + (f"?{query}" if query else ""))
    return "/login" if goal == "/" else f"/login?next={quote(goal, safe='/')}"


def _token(fields: dict[str, str]) -> str:
    return fields.get("token", "").strip()


def _local(address: str) -> str:
    """Return the address if it is a path of this server, else `/`: a login must not lead to another site."""
    local = _LOCAL.fullmatch(address) and not address.startswith(_FORMS)
    return address if local else "/"


def _form(goal: str, wrong: str = "", status: int = 200) -> Response:
    form = html.tag(
        "form",
        html.tag("h1", html.tag("span", class_="mark"), "tuneport"),
        html.tag("label", "Access token", for_="token"),
        html.tag(
            "input",
            type="password",
            name="token",
            id="token",
            autocomplete="current-password",
            required=True,
            autofocus=True,
        ),
        html.tag("input", type="hidden", name="next", value=goal) if goal != "/" else "",
        html.tag("p", wrong, class_="error", role="alert") if wrong else "",
        html.tag("button", "Log in", type="submit", class_="first"),
        html.tag(
            "p",
            "To create one on the server's machine, run ",
            html.tag("code", "tuneport access add NAME"),
            ".",
            class_="quiet",
        ),
        method="post",
        action="/login",
        class_="card login",
    )
    return document("Log in", form, None, status=status)


ROUTES = [
    Route("/login", login, methods=["GET", "POST"]),
    Route("/logout", logout, methods=["POST"]),
]
