"""The page at `/`: the newest jobs and files."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tuneport.plugin import html
from tuneport_server.background.events import TrainingEvents, events_of
from tuneport_server.page.frame import document, link, live, moment, quiet, size_of, state, tuned_name
from tuneport_server.page.job import progress, title_of
from tuneport_server.request_threads import expensive
from tuneport_server.server import owned_of, server_of
from tuneport_server.store import Owned, Row

_NEWEST = 200  # rows of each list


def index(request: Request) -> Response:
    """`GET /`: the newest jobs and files."""
    owned, events = owned_of(request), server_of(request).events
    rows = [
        (_name(row), html.join((state(row), _progress(owned, events, row))), row["model"], moment(row["created"]))
        for row in owned.jobs(limit=_NEWEST)
    ]
    uploaded = [
        (link(f"/files/{row['id']}", row["filename"]), size_of(row), row["purpose"], moment(row["created"]))
        for row in owned.files(limit=_NEWEST)
    ]
    shown = html.table(("job", "status", "model", "created (UTC)"), rows) if rows else quiet("No jobs yet.")
    files = html.table(("file", "size", "purpose", "received (UTC)"), uploaded) if uploaded else quiet("No files yet.")
    parts = (
        html.tag("h1", "Jobs"),
        live("jobs", shown, class_="card"),
        html.tag("h2", "Files"),
        live("files", files, class_="card"),
    )
    return document("Jobs", html.join(parts), owned.owner, here="/")


def _name(row: Row) -> html.Html:
    title, id_ = title_of(row), row["id"]
    under = tuned_name(row) or (id_ if title != id_ else "")
    return html.join((link(f"/jobs/{id_}", title), html.tag("small", under) if under else ""))


def _progress(owned: Owned, events: TrainingEvents, row: Row) -> html.Html:
    return progress(events_of(owned, events, row)) if row["status"] == "running" else html.Html("")


ROUTES = [Route("/", expensive(index), methods=["GET"])]
