"""The page at `/`: jobs live, curves, events, files with their findings, and a place to ask a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from tuneport import Dataset, Reply
from tuneport_server import chat, jobs, models
from tuneport_server.bodies import read_fields
from tuneport_server.events import events_of
from tuneport_server.files import PURPOSE, find_file
from tuneport_server.markup import Html, Point, curves, facts, join, table, tag
from tuneport_server.server import Server, owner_of, server_of
from tuneport_server.sessions import COOKIE, LIFE_SECONDS
from tuneport_server.store import Row
from tuneport_server.wire import WireError, missing

_HERE = Path(__file__).parent
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_NEWEST = 200  # rows of a list on the page
_CHECKED_BYTES = 64 * 2**20  # a larger file is checked by its job, not for the page


def problem(error: WireError) -> Response:
    """What went wrong, for who looks at it in a browser."""
    said = join((tag("h1", "That cannot be"), tag("p", error.message), tag("p", _link("/", "Back to the jobs"))))
    return _document("Error", said, None, error.status)


async def login(request: Request) -> Response:
    """`GET /login` shows the form, `POST /login` takes the token."""
    if request.method == "GET":
        return _login_form()
    server = server_of(request)
    token = (await read_fields(request, server.limits)).get("token", "").strip()
    value = await run_in_threadpool(server.sessions.open, token)
    if value is None:
        return _login_form("The token is not known here.", 401)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(COOKIE, value, max_age=LIFE_SECONDS, httponly=True, samesite="strict")
    return answer


async def logout(request: Request) -> Response:
    """`POST /logout`."""
    server_of(request).sessions.close(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def index(request: Request) -> Response:
    """`GET /`: the newest jobs and files."""
    server, owner = server_of(request), owner_of(request)
    listed = server.store.rows("SELECT * FROM jobs WHERE owner = ? ORDER BY n DESC LIMIT ?", owner, _NEWEST)
    rows = [
        (_link(f"/jobs/{row['id']}", row["id"]), _status(row), row["model"], _time(row["created"]), _tuned(row) or "")
        for row in listed
    ]
    kept = server.store.rows(
        "SELECT * FROM files WHERE owner = ? AND deleted IS NULL ORDER BY n DESC LIMIT ?", owner, _NEWEST
    )
    held = [
        (
            _link(f"/files/{row['id']}", row["filename"]),
            _size(row),
            row["purpose"],
            _time(row["created"]),
        )
        for row in kept
    ]
    live = tag(
        "div",
        tag("h1", "Jobs"),
        table(("job", "status", "model", "created", "tuned model"), rows) if rows else _nothing("No job yet."),
        tag("h2", "Files"),
        table(("file", "size", "purpose", "received"), held) if held else _nothing("No file yet."),
        data_live=True,
    )
    return _document("Jobs", live, owner)


def job(request: Request) -> Response:
    """`GET /jobs/{id}`: one job: how it stands, its curves and its events."""
    server, owner, row = server_of(request), owner_of(request), jobs.find(request)
    events = events_of(server, row)
    asked = json.loads(row["request"])["asked"]
    known = [
        ("status", _status(row)),
        ("model", row["model"]),
        ("tuned model", _tuned(row) or "none yet"),
        ("training file", _link(f"/files/{row['training_file']}", row["training_file"])),
        ("method", ", ".join(f"{name} {value}" for name, value in asked.items())),
        ("created", _time(row["created"])),
        ("ended", _time(row["finished"]) if row["finished"] else "not yet"),
    ]
    if (end := server.trainer.estimate(row["id"])) is not None:
        known.append(("expected to end", _time(end)))
    if row["error"]:
        known.append(("error", tag("span", json.loads(row["error"])["message"], class_="error")))
    told = [
        (_time(one["created_at"]), tag("span", one["level"], class_=one["level"]), one["message"])
        for one in events[: -_NEWEST - 1 : -1]
    ]
    live = tag(
        "div",
        tag("h1", row["id"]),
        facts(known),
        _buttons(row),
        curves(
            (
                ("training loss", "train", _line(events, "train_loss")),
                ("validation loss", "valid", _line(events, "valid_loss")),
            )
        ),
        tag("h2", "Events"),
        table(("time", "level", "message"), told),
        data_live=True,
    )
    return _document(row["id"], live, owner)


async def act(request: Request) -> Response:
    """`POST /jobs/{id}/{verb}`: what a button does."""
    if request.path_params["verb"] not in jobs.VERBS:
        raise missing("page", request.url.path)
    row = await run_in_threadpool(jobs.act_on, request, request.path_params["verb"])
    return RedirectResponse(f"/jobs/{row['id']}", 303)


def file(request: Request) -> Response:
    """`GET /files/{id}`: what a check finds in a file."""
    server, owner = server_of(request), owner_of(request)
    row = find_file(server, owner, request.path_params["file_id"])
    if row is None:
        raise missing("file", request.path_params["file_id"])
    head = (
        tag("h1", row["filename"]),
        facts((("id", row["id"]), ("size", _size(row)), ("received", _time(row["created"])))),
    )
    return _document(row["filename"], join((*head, _findings(server, row))), owner)


async def ask(request: Request) -> Response:
    """`GET /ask` shows the form; `POST /ask` answers, a tuned model beside its base."""
    server, owner = server_of(request), owner_of(request)
    names = await run_in_threadpool(_names, server, owner)
    asked = {} if request.method == "GET" else await read_fields(request, server.limits)
    chosen = asked.get("model", request.query_params.get("model", ""))
    form = tag(
        "form",
        tag("label", "Model", for_="model"),
        tag("select", *(tag("option", one, selected=one == chosen) for one in names), name="model", id="model"),
        tag("label", "System prompt, if any", for_="system"),
        tag("textarea", asked.get("system", ""), name="system", id="system", rows=2),
        tag("label", "Question", for_="question"),
        tag("textarea", asked.get("question", ""), name="question", id="question", rows=5, required=True),
        tag("p", tag("button", "Ask", type="submit")),
        method="post",
        action="/ask",
        class_="narrow",
    )
    answers = await _answers(request, server, owner, asked) if asked.get("question") else Html("")
    return _document("Ask", join((tag("h1", "Ask a model"), form, answers)), owner)


async def _answers(request: Request, server: Server, owner: str, asked: dict[str, str]) -> Html:
    """The answers of the chosen model and, where it is a tuned one, of what it was tuned from."""
    system = [{"role": "system", "content": asked["system"]}] if asked.get("system") else []
    messages = [*system, {"role": "user", "content": asked["question"]}]
    base = await run_in_threadpool(_base_of, server, owner, asked.get("model", ""))
    shown = []
    for name in (asked.get("model", ""), *((base,) if base else ())):
        try:
            ref = await run_in_threadpool(models.resolve, server, owner, name)
            said: object = _said(await chat.answer(request, ref, messages))
        except WireError as error:
            said = tag("p", error.message, class_="error")
        shown.append(tag("section", tag("h2", name), said))
    return tag("div", *shown, class_="answers", aria_live="polite")


def _said(one: Reply) -> Html:
    calls = [tag("pre", json.dumps(call, indent=2, ensure_ascii=False)) for call in one.tool_calls]
    return join((tag("pre", one.text), *calls))


def _names(server: Server, owner: str) -> list[str]:
    return [*(row["tuned"] for row in models.tuned_rows(server, owner)), *server.names]


def _base_of(server: Server, owner: str, name: str) -> str | None:
    found = [row["model"] for row in models.tuned_rows(server, owner) if row["tuned"] == name]
    return str(found[0]) if found else None


def _findings(server: Server, row: Row) -> Html:
    if row["purpose"] != PURPOSE:
        return tag("pre", (server.files / row["id"]).read_text("utf-8", "replace")[:20_000])
    if row["bytes"] > _CHECKED_BYTES:
        return _nothing("Too large to be checked for this page. A job checks it when it is created.")
    result = Dataset.load(server.files / row["id"], "jsonl").check(workers=1)
    found = [
        (
            tag("span", one.severity, class_=one.severity),
            one.code,
            one.line or "",
            one.pointer or "",
            f"{one.message} {one.remedy}",
        )
        for one in result.diagnostics[:_NEWEST]
    ]
    counts = f"read {result.read:,} = used {result.used:,} + rejected {result.rejected:,}"
    findings = (
        table(("", "code", "line", "pointer", "what, and what to do"), found) if found else _nothing("No finding.")
    )
    return join((tag("h2", "Rows"), tag("p", counts), findings))


def _buttons(row: Row) -> Html:
    if row["over"]:
        tuned = _tuned(row)
        return tag("p", _link(f"/ask?model={tuned}", "Ask the tuned model")) if tuned else Html("")
    verbs = ("resume", "cancel") if row["status"] == "paused" else ("pause", "cancel")
    forms = [
        tag("form", tag("button", verb.capitalize(), type="submit"), method="post", action=f"/jobs/{row['id']}/{verb}")
        for verb in verbs
    ]
    return tag("div", *forms, class_="actions")


def _line(events: Sequence[dict[str, Any]], name: str) -> list[Point]:
    """The figures of one name by step; of a step that was trained again after a crash, the last."""
    found: dict[float, float] = {}
    for one in events:
        data = one.get("data") or {}
        if isinstance(data.get("step"), int | float) and isinstance(data.get(name), int | float):
            found[data["step"]] = data[name]
    return sorted(found.items())


def _tuned(row: Row) -> str | None:
    return row["tuned"] if row["status"] == "succeeded" and not row["removed"] else None


def _status(row: Row) -> Html:
    return tag("span", row["status"].replace("_", " "), class_=row["status"])


def _time(seconds: float) -> Html:
    moment = datetime.fromtimestamp(int(seconds), UTC)
    return tag("time", f"{moment:%Y-%m-%d %H:%M:%S} UTC", datetime=moment.isoformat())


def _size(row: Row) -> str:
    return f"{row['bytes']:,} bytes"


def _link(address: str, name: str) -> Html:
    return tag("a", name, href=address)


def _nothing(said: str) -> Html:
    return tag("p", said, class_="quiet")


def _login_form(problem: str = "", status: int = 200) -> Response:
    form = tag(
        "form",
        tag("h1", "tuneport"),
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
        tag("p", problem, class_="error", role="alert") if problem else "",
        tag("p", tag("button", "Log in", type="submit")),
        tag("p", "`tuneport tokens add NAME` makes a token on the machine that serves.", class_="quiet"),
        method="post",
        action="/login",
        class_="narrow",
    )
    return _document("Log in", form, None, status)


def _document(title: str, inside: Html, owner: str | None, status: int = 200) -> Response:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title} · tuneport"),
        tag("link", rel="stylesheet", href="/page.css"),
        tag("script", src="/page.js", defer=True),
    )
    leave = tag("form", tag("button", f"Log out {owner}", type="submit"), method="post", action="/logout")
    top = tag("header", tag("b", "tuneport"), _link("/", "Jobs"), _link("/ask", "Ask"), leave) if owner else ""
    whole = "<!doctype html>\n" + tag("html", head, tag("body", top, tag("main", inside)), lang="en")
    return Response(
        whole.encode("utf-8", "replace"),
        status,
        {"content-security-policy": _POLICY},
        "text/html; charset=utf-8",
    )


def _asset(request: Request) -> Response:
    kind = "text/css" if request.url.path.endswith(".css") else "text/javascript"
    return FileResponse(_HERE / request.url.path.removeprefix("/"), media_type=kind)


ROUTES = [
    Route("/", index, methods=["GET"]),
    Route("/login", login, methods=["GET", "POST"]),
    Route("/logout", logout, methods=["POST"]),
    Route("/page.css", _asset, methods=["GET"]),
    Route("/page.js", _asset, methods=["GET"]),
    Route("/jobs/{job_id}", job, methods=["GET"]),
    Route("/jobs/{job_id}/{verb}", act, methods=["POST"]),
    Route("/files/{file_id}", file, methods=["GET"]),
    Route("/ask", ask, methods=["GET", "POST"]),
]
