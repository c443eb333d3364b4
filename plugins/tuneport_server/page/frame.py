"""What all pages have in common: their frame, and how links, times, states and failures look."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tuneport_server.page.markup import Html, tag
from tuneport_server.store import Row
from tuneport_server.wire import WireError

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HERE = Path(__file__).parent
_ASSETS = {"/page.css": "text/css", "/page.js": "text/javascript", "/icon.svg": "image/svg+xml"}
_CONTENT = {path: (_HERE / path.removeprefix("/")).read_bytes() for path in _ASSETS}
OPEN = frozenset(_ASSETS)
"""What the login form needs, and anybody may see."""


def document(title: str, inside: Html, owner: str | None, *, here: str = "", status: int = 200) -> Response:
    """A whole page; `owner` is who is logged in, `here` the address of the part of the site that it belongs to."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title} · tuneport"),
        tag("link", rel="icon", href="/icon.svg"),
        tag("link", rel="stylesheet", href="/page.css"),
        tag("script", src="/page.js", defer=True),
    )
    parts = [
        tag("a", "Skip to the content", href="#content", class_="skip"),
        _header(owner, here) if owner else "",
        tag("main", inside, id="content", tabindex="-1"),
    ]
    whole = "<!doctype html>\n" + tag("html", head, tag("body", *parts), lang="en")
    headers = {"content-security-policy": _POLICY}
    return Response(whole.encode("utf-8", "replace"), status, headers, "text/html; charset=utf-8")


def problem(error: WireError) -> Response:
    """What went wrong, for who looks at it in a browser."""
    heading = {403: "Not allowed", 404: "Not found"}.get(error.status, "That did not work")
    said = (tag("h1", heading), tag("p", error.message), tag("p", link("/", "Back to the jobs")))
    return document(heading, tag("div", *said, class_="card narrow"), None, status=error.status)


def live(name: str, *inside: object, **attributes: object) -> Html:
    """A part of a page that page.js keeps as the server has it."""
    return tag("div", *inside, id=name, data_live=True, **attributes)


def state(row: Row) -> Html:
    """A job's status as a badge."""
    return tag("span", row["status"].replace("_", " "), class_=f"badge {row['status']}")


def moment(seconds: float) -> Html:
    """A time, in UTC as the page's head says."""
    then = datetime.fromtimestamp(int(seconds), UTC)
    return tag("time", f"{then:%Y-%m-%d %H:%M:%S}", datetime=then.isoformat())


def link(address: str, name: str) -> Html:
    """A link within the page."""
    return tag("a", name, href=address)


def button(name: str, action: str, kind: str | None = None) -> Html:
    """A form that is nothing but a button."""
    return tag("form", tag("button", name, type="submit", class_=kind), method="post", action=action)


def nothing(said: str) -> Html:
    """A quiet remark where something would stand."""
    return tag("p", said, class_="quiet")


def _header(owner: str, here: str) -> Html:
    places: Mapping[str, str] = {"/": "Jobs", "/ask": "Playground"}
    links = [
        tag("a", name, href=address, aria_current="page" if here == address else None)
        for address, name in places.items()
    ]
    leave = tag(
        "form",
        tag("span", owner, class_="quiet"),
        tag("button", "Log out", type="submit", class_="plain"),
        method="post",
        action="/logout",
    )
    brand = tag("a", tag("span", class_="mark"), "tuneport", href="/", class_="brand")
    return tag("header", tag("div", brand, tag("nav", *links, aria_label="Pages"), leave))


async def _asset(request: Request) -> Response:
    path = request.url.path  # from memory and without a thread, since anybody may ask for it
    return Response(_CONTENT[path], media_type=_ASSETS[path])


ROUTES = [Route(path, _asset, methods=["GET"]) for path in _ASSETS]
