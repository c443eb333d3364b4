"""What all pages share: their frame, and how links, times, states and errors look."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tuneport.plugin import html
from tuneport_server.store import Row
from tuneport_server.wire import WireError

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HERE = Path(__file__).parent
_ASSETS = {"/page.css": "text/css", "/page.js": "text/javascript", "/icon.svg": "image/svg+xml"}
_CONTENT = {path: (_HERE / path.removeprefix("/")).read_bytes() for path in _ASSETS}
_MENU = {"/": "Jobs", "/ask": "Playground"}
OPEN = frozenset(_ASSETS)
"""Paths that the login form needs, and that anyone may see."""


def document(title: str, inside: html.Html, owner: str | None, *, here: str = "", status: int = 200) -> Response:
    """Return a complete page. `owner` is logged in; `here` is the address of the menu entry that it belongs to."""
    head = html.tag(
        "head",
        html.tag("meta", charset="utf-8"),
        html.tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        html.tag("title", f"{title} · tuneport"),
        html.tag("link", rel="icon", href="/icon.svg"),
        html.tag("link", rel="stylesheet", href="/page.css"),
        html.tag("script", src="/page.js", defer=True),
    )
    parts = [
        html.tag("a", "Skip to the content", href="#content", class_="skip"),
        _header(owner, here) if owner else "",
        html.tag("main", inside, id="content", tabindex="-1"),
    ]
    text = "<!doctype html>\n" + html.tag("html", head, html.tag("body", *parts), lang="en")
    headers = {"content-security-policy": _POLICY}
    return Response(text.encode("utf-8", "replace"), status, headers, "text/html; charset=utf-8")


def problem(error: WireError) -> Response:
    """Return a page for an error."""
    heading = {403: "Not allowed", 404: "Not found"}.get(error.status, "Error")
    parts = (html.tag("h1", heading), html.tag("p", error.message), html.tag("p", link("/", "Back to the jobs")))
    return document(heading, html.tag("div", *parts, class_="card narrow"), None, status=error.status)


def live(name: str, *inside: html.Child, **attributes: html.Attribute) -> html.Html:
    """Return a part of a page that page.js keeps up to date."""
    return html.tag("div", *inside, id=name, data_live=True, **attributes)


def state(row: Row) -> html.Html:
    """Return a job's status as a badge."""
    return html.tag("span", row["status"].replace("_", " "), class_=f"badge {row['status']}")


def moment(seconds: float) -> html.Html:
    """Return a time in UTC, given in seconds since 1970."""
    then = datetime.fromtimestamp(int(seconds), UTC)
    return html.tag("time", f"{then:%Y-%m-%d %H:%M:%S}", datetime=then.isoformat())


def link(address: str, name: str) -> html.Html:
    """Return a link to another page of this server."""
    return html.tag("a", name, href=address)


def button(name: str, action: str, kind: str | None = None) -> html.Html:
    """Return a form with only a button."""
    return html.tag("form", html.tag("button", name, type="submit", class_=kind), method="post", action=action)


def quiet(text: str) -> html.Html:
    """Return a remark, such as one in place of an empty list."""
    return html.tag("p", text, class_="quiet")


def facts(pairs: Iterable[tuple[str, html.Child]]) -> html.Html:
    """Return a list of names and values."""
    return html.tag("dl", [html.tag("div", html.tag("dt", name), html.tag("dd", value)) for name, value in pairs])


def size_of(row: Row) -> str:
    """Return the size of a file."""
    return f"{row['bytes']:,} bytes"


def tuned_name(row: Row) -> str | None:
    """Return the name of a job's model, if there is one."""
    return row["tuned"] if row["status"] == "succeeded" and not row["removed"] else None


def _header(owner: str, here: str) -> html.Html:
    links = [
        html.tag("a", name, href=address, aria_current="page" if here == address else None)
        for address, name in _MENU.items()
    ]
    leave = html.tag(
        "form",
        html.tag("span", owner, class_="quiet"),
        html.tag("button", "Log out", type="submit", class_="plain"),
        method="post",
        action="/logout",
    )
    brand = html.tag("a", html.tag("span", class_="mark"), "tuneport", href="/", class_="brand")
    return html.tag("header", html.tag("div", brand, html.tag("nav", *links, aria_label="Pages"), leave))


async def _asset(request: Request) -> Response:
    path = request.url.path  # from memory and without a thread, because anyone may request it
    return Response(_CONTENT[path], media_type=_ASSETS[path])


ROUTES = [Route(path, _asset, methods=["GET"]) for path in _ASSETS]
