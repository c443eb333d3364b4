"""The page of a job: its status, loss curves, samples of its model, and events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tuneport.plugin import html
from tuneport_server.background.events import events_of
from tuneport_server.page import samples
from tuneport_server.page.charts import Point, curves
from tuneport_server.page.frame import button, document, facts, link, live, moment, quiet, state, tuned_name
from tuneport_server.request_threads import expensive
from tuneport_server.routes import jobs
from tuneport_server.server import Server, owned_of, server_of
from tuneport_server.store import Owned, Row
from tuneport_server.wire import missing

_NEWEST = 200  # events that are shown


def job(request: Request) -> Response:
    """`GET /jobs/{id}`: one job."""
    server, owned, row = server_of(request), owned_of(request), jobs.find(request)
    events = events_of(owned, server.events, row)
    lines = (
        ("training loss", "train", _line(events, "train_loss")),
        ("validation loss", "valid", _line(events, "valid_loss")),
    )
    messages = [
        html.tag(
            "li",
            moment(one["created_at"]),
            html.tag("span", one["level"], class_=one["level"]),
            html.tag("span", one["message"]),
        )
        for one in events[: -_NEWEST - 1 : -1]
    ]
    done = progress(events) if not row["over"] else ""
    parts = (
        html.tag("p", link("/", "Jobs"), " / ", row["id"], class_="path"),
        live("state", html.tag("h1", title_of(row), state(row)), done, role="status"),
        live("actions", *_actions(row), class_="actions"),
        live("wrong", _error(row)),
        live("curves", _picture(row, lines)),
        live("facts", _facts(server, owned, row), class_="card"),
        live("samples", samples.show(owned, row)),
        html.tag("h2", "Events (UTC)"),
        live(
            "events",
            html.tag("ol", *messages, class_="events"),
            class_="card scroll",
            tabindex=0,
            role="region",
            aria_label="Events",
        ),
    )
    return document(title_of(row), html.join(parts), owned.owner, here="/")


async def act(request: Request) -> Response:
    """`POST /jobs/{id}/{action}`: the action of a button."""
    action = request.path_params["action"]
    if action not in jobs.ACTIONS:
        raise missing("page", request.url.path)
    row = await server_of(request).threads.run(request, jobs.act, request, action)
    return RedirectResponse(f"/jobs/{row['id']}", 303)


async def sample(request: Request) -> Response:
    """`POST /jobs/{id}/samples`: ask the tuned model and its base for answers to a few rows."""
    row = await run_in_threadpool(jobs.find, request)
    await samples.make(request, row)
    return RedirectResponse(f"/jobs/{row['id']}#samples", 303)


def title_of(row: Row) -> str:
    """Return the suffix that a job's owner chose, else its id."""
    return str(json.loads(row["request"])["suffix"] or row["id"])


def progress(events: Sequence[dict[str, Any]]) -> html.Html:
    """Return a bar with the steps of a training, if their number is known."""
    for one in reversed(events):
        data = one.get("data") or {}
        step, total = data.get("step"), data.get("total_steps")
        if isinstance(step, int) and isinstance(total, int) and total > 0:
            bar = html.tag("progress", value=min(step, total), max=total, aria_label="steps done")
            return html.tag("span", bar, f"{step:,} of {total:,} steps", class_="progress")
    return html.Html("")


def _facts(server: Server, owned: Owned, row: Row) -> html.Html:
    asked = json.loads(row["request"])["asked"]
    known: list[tuple[str, html.Child]] = [("model", row["model"]), ("tuned model", tuned_name(row) or "none")]
    for use in ("training", "validation"):
        if (id_ := row[f"{use}_file"]) is not None:
            file = owned.file(id_)
            known.append((f"{use} file", link(f"/files/{id_}", file["filename"]) if file else f"{id_} (deleted)"))
    known += [(name.removeprefix("n_").replace("_", " "), value) for name, value in asked.items()]
    if row["tokens"]:
        known.append(("trained tokens", f"{row['tokens']:,}"))
    known.append(("created (UTC)", moment(row["created"])))
    if row["finished"]:
        known.append(("ended (UTC)", moment(row["finished"])))
    elif (end := server.trainer.estimated_finish(row["id"])) is not None:
        known.append(("expected end (UTC)", moment(end)))
    return facts(known)


def _error(row: Row) -> html.Html:
    return html.tag("pre", json.loads(row["error"])["message"], class_="error card") if row["error"] else html.Html("")


def _picture(row: Row, lines: Sequence[tuple[str, str, Sequence[Point]]]) -> html.Html:
    drawn = curves(lines) or (html.Html("") if row["over"] else quiet("No steps yet."))
    return html.tag("div", drawn, class_="card") if drawn else drawn


def _actions(row: Row) -> list[html.Html]:
    if row["over"]:
        name = tuned_name(row)
        return [html.tag("a", "Ask the tuned model", href=f"/ask?model={quote(name)}", class_="button")] if name else []
    actions = ("resume", "cancel") if row["status"] == "paused" else ("pause", "cancel")
    return [button(action.capitalize(), f"/jobs/{row['id']}/{action}") for action in actions]


def _line(events: Sequence[dict[str, Any]], name: str) -> list[Point]:
    """Return the values of one metric by step; for a step that was repeated after a crash, the last one."""
    found: dict[float, float] = {}
    for one in events:
        data = one.get("data") or {}
        if isinstance(data.get("step"), int | float) and isinstance(data.get(name), int | float):
            found[data["step"]] = data[name]
    return sorted(found.items())


ROUTES = [
    Route("/jobs/{job_id}", expensive(job), methods=["GET"]),
    Route("/jobs/{job_id}/samples", sample, methods=["POST"]),
    Route("/jobs/{job_id}/{action}", act, methods=["POST"]),
]
