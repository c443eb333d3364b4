"""The page at `/`: jobs live with their curves and events, and files with what a check finds in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tuneport.plugin import open_regular
from tuneport_server import jobs, samples
from tuneport_server.background.events import events_of
from tuneport_server.page.frame import button, document, link, live, moment, nothing, state
from tuneport_server.page.markup import Html, Point, curves, facts, join, table, tag
from tuneport_server.request_threads import expensive
from tuneport_server.routes.files import PURPOSE, find_file
from tuneport_server.server import Server, owner_of, server_of
from tuneport_server.store import Row
from tuneport_server.wire import missing

_NEWEST = 200  # rows of a list on the page
_PLACES = 3  # of a finding: messages, and places of each
_NOTHING_WRONG = "The check finds nothing wrong."


def index(request: Request) -> Response:
    """`GET /`: the newest jobs and files."""
    server, owner = server_of(request), owner_of(request)
    listed = server.store.rows("SELECT * FROM jobs WHERE owner = ? ORDER BY n DESC LIMIT ?", owner, _NEWEST)
    kept = server.store.rows(
        "SELECT * FROM files WHERE owner = ? AND deleted IS NULL ORDER BY n DESC LIMIT ?", owner, _NEWEST
    )
    rows = [
        (_named(row), join((state(row), _progress(server, row))), row["model"], moment(row["created"]))
        for row in listed
    ]
    held = [
        (link(f"/files/{row['id']}", row["filename"]), _size(row), row["purpose"], moment(row["created"]))
        for row in kept
    ]
    shown = table(("job", "status", "model", "created (UTC)"), rows) if rows else nothing("No job yet.")
    files = table(("file", "size", "purpose", "received (UTC)"), held) if held else nothing("No file yet.")
    parts = (
        tag("h1", "Jobs"),
        live("jobs", shown, class_="card"),
        tag("h2", "Files"),
        live("files", files, class_="card"),
    )
    return document("Jobs", join(parts), owner, here="/")


def job(request: Request) -> Response:
    """`GET /jobs/{id}`: one job: how it stands, its curves, samples of its model and its events."""
    server, owner, row = server_of(request), owner_of(request), jobs.find(request)
    events = events_of(server, row)
    lines = (
        ("training loss", "train", _line(events, "train_loss")),
        ("validation loss", "valid", _line(events, "valid_loss")),
    )
    told = [
        tag(
            "li", moment(one["created_at"]), tag("span", one["level"], class_=one["level"]), tag("span", one["message"])
        )
        for one in events[: -_NEWEST - 1 : -1]
    ]
    parts = (
        tag("p", link("/", "Jobs"), " / ", row["id"], class_="path"),
        live("state", tag("h1", _title(row), state(row)), _bar(events) if not row["over"] else "", role="status"),
        live("actions", *_actions(row), class_="actions"),
        live("wrong", _error(row)),
        live("curves", _picture(row, lines)),
        live("facts", _facts(server, row), class_="card"),
        live("samples", samples.shown(server, row)),
        tag("h2", "Events (UTC)"),
        live(
            "events",
            tag("ol", *told, class_="events"),
            class_="card scroll",
            tabindex=0,
            role="region",
            aria_label="Events",
        ),
    )
    return document(_title(row), join(parts), owner, here="/")


async def act(request: Request) -> Response:
    """`POST /jobs/{id}/{verb}`: what a button does."""
    verb = request.path_params["verb"]
    if verb not in jobs.VERBS:
        raise missing("page", request.url.path)
    row = await server_of(request).pool.run(request, jobs.act_on, request, verb)
    return RedirectResponse(f"/jobs/{row['id']}", 303)


async def sample(request: Request) -> Response:
    """`POST /jobs/{id}/samples`: let the tuned model and its base answer a few rows."""
    row = await run_in_threadpool(jobs.find, request)
    await samples.make(request, row)
    return RedirectResponse(f"/jobs/{row['id']}#samples", 303)


def file(request: Request) -> Response:
    """`GET /files/{id}`: what a check finds in a file."""
    server, owner = server_of(request), owner_of(request)
    row = find_file(server, owner, request.path_params["file_id"])
    if row is None:
        raise missing("file", request.path_params["file_id"])
    known = [("id", row["id"]), ("size", _size(row)), ("received (UTC)", moment(row["created"]))]
    counts, said = _content(server, row)
    parts = (
        tag("p", link("/", "Jobs"), " / ", row["id"], class_="path"),
        tag("h1", row["filename"]),
        live("facts", facts([*known, *counts]), class_="card"),
        live("check", said),
    )
    return document(row["filename"], join(parts), owner, here="/")


def _content(server: Server, row: Row) -> tuple[Sequence[tuple[str, object]], Html]:
    """What is to be told of a file's rows: figures, and what a check finds in them."""
    if row["purpose"] != PURPOSE:
        try:
            with open_regular(server.files / row["id"]) as file:
                return (), join((tag("h2", "Content"), tag("pre", file.read(20_000).decode("utf-8", "replace"))))
        except FileNotFoundError:  # deleted since its row was read
            raise missing("file", row["id"]) from None
    result = server.checks.result(row["id"])
    if result is None:
        return (), nothing("The file is being checked. Look again in a moment.")
    if row["refused"]:
        return (), join((tag("h2", "Check"), tag("pre", row["details"], class_="error card")))
    found = _findings(result)
    said = table(("severity", "code", "count", "finding", "remedy"), found) if found else nothing(_NOTHING_WRONG)
    counts = (
        ("rows read", f"{result['read']:,}"),
        ("rows used", f"{result['used']:,}"),
        ("rows rejected", f"{result['rejected']:,}"),
    )
    return counts, join((tag("h2", "Check"), tag("div", said, class_="card")))


def _findings(result: dict[str, Any]) -> list[Sequence[object]]:
    """A row for each code: how often it was found, its first messages with their first places, and its cure."""
    codes: dict[str, list[dict[str, Any]]] = {}
    for one in result["found"]:
        codes.setdefault(one["code"], []).append(one)
    counts = result.get("counts", {})  # results that an older server kept have none
    rows: list[Sequence[object]] = []
    for code, found in codes.items():
        messages: dict[str, list[str]] = {}
        for one in found:
            messages.setdefault(one["message"], []).append(_place(one))
        shown = list(messages.items())[:_PLACES]
        places = sum(len(where[:_PLACES]) for _, where in shown)
        said = [tag("div", message, tag("small", "; ".join(filter(None, where[:_PLACES])))) for message, where in shown]
        total = max(len(found), counts.get(code, 0))
        more = tag("small", f"and {total - places:,} more") if total > places else ""
        severity = tag("span", found[0]["severity"], class_=found[0]["severity"])
        rows.append((severity, code, f"{total:,}", tag("div", *said, more), found[0]["remedy"] or ""))
    return rows


def _place(one: dict[str, Any]) -> str:
    line, pointer = one["line"], one["pointer"]
    return " at ".join(part for part in (f"line {line}" if line else "", pointer or "") if part)


def _facts(server: Server, row: Row) -> Html:
    asked = json.loads(row["request"])["asked"]
    known: list[tuple[str, object]] = [("model", row["model"]), ("tuned model", samples.tuned(row) or "none")]
    for use in ("training", "validation"):
        if (id_ := row[f"{use}_file"]) is not None:
            file = find_file(server, row["owner"], id_)
            known.append((f"{use} file", link(f"/files/{id_}", file["filename"]) if file else f"{id_}, deleted"))
    known += [(name.removeprefix("n_").replace("_", " "), value) for name, value in asked.items()]
    if row["tokens"]:
        known.append(("trained tokens", f"{row['tokens']:,}"))
    known.append(("created (UTC)", moment(row["created"])))
    if row["finished"]:
        known.append(("ended (UTC)", moment(row["finished"])))
    elif (end := server.trainer.estimate(row["id"])) is not None:
        known.append(("expected to end (UTC)", moment(end)))
    return facts(known)


def _error(row: Row) -> Html:
    return tag("pre", json.loads(row["error"])["message"], class_="error card") if row["error"] else Html("")


def _picture(row: Row, lines: Sequence[tuple[str, str, Sequence[Point]]]) -> Html:
    drawn = curves(lines) or (Html("") if row["over"] else nothing("No step yet."))
    return tag("div", drawn, class_="card") if drawn else drawn


def _actions(row: Row) -> list[Html]:
    if row["over"]:
        name = samples.tuned(row)
        return [tag("a", "Ask the tuned model", href=f"/ask?model={quote(name)}", class_="button")] if name else []
    verbs = ("resume", "cancel") if row["status"] == "paused" else ("pause", "cancel")
    return [button(verb.capitalize(), f"/jobs/{row['id']}/{verb}") for verb in verbs]


def _title(row: Row) -> str:
    return str(json.loads(row["request"])["suffix"] or row["id"])


def _named(row: Row) -> Html:
    title, id_ = _title(row), row["id"]
    under = samples.tuned(row) or (id_ if title != id_ else "")
    return join((link(f"/jobs/{id_}", title), tag("small", under) if under else ""))


def _progress(server: Server, row: Row) -> Html:
    return _bar(events_of(server, row)) if row["status"] == "running" else Html("")


def _bar(events: Sequence[dict[str, Any]]) -> Html:
    """How many of its steps a training has made, where that is known."""
    for one in reversed(events):
        data = one.get("data") or {}
        step, total = data.get("step"), data.get("total_steps")
        if isinstance(step, int) and isinstance(total, int) and total > 0:
            bar = tag("progress", value=min(step, total), max=total, aria_label="steps made")
            return tag("span", bar, f"{step:,} of {total:,} steps", class_="progress")
    return Html("")


def _line(events: Sequence[dict[str, Any]], name: str) -> list[Point]:
    """The figures of one name by step; of a step that was trained again after a crash, the last."""
    found: dict[float, float] = {}
    for one in events:
        data = one.get("data") or {}
        if isinstance(data.get("step"), int | float) and isinstance(data.get(name), int | float):
            found[data["step"]] = data[name]
    return sorted(found.items())


def _size(row: Row) -> str:
    return f"{row['bytes']:,} bytes"


ROUTES = [
    Route("/", expensive(index), methods=["GET"]),
    Route("/jobs/{job_id}", expensive(job), methods=["GET"]),
    Route("/jobs/{job_id}/samples", sample, methods=["POST"]),
    Route("/jobs/{job_id}/{verb}", act, methods=["POST"]),
    Route("/files/{file_id}", file, methods=["GET"]),
]
