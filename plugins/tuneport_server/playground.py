"""`/ask`: a form that asks a tuned model and its base side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tuneport_server import models, samples
from tuneport_server.bodies import read_fields
from tuneport_server.frame import document
from tuneport_server.markup import Html, join, tag
from tuneport_server.server import Server, owner_of, server_of


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
        tag("button", "Ask", type="submit", class_="first"),
        method="post",
        action="/ask",
        class_="card",
    )
    answers = await _answers(request, server, owner, asked) if asked.get("question") else Html("")
    return document("Playground", join((tag("h1", "Playground"), form, answers)), owner, here="/ask")


async def _answers(request: Request, server: Server, owner: str, asked: dict[str, str]) -> Html:
    """The answers of the chosen model and, where it is a tuned one, of what it was tuned from."""
    system = [{"role": "system", "content": asked["system"]}] if asked.get("system") else []
    messages = [*system, {"role": "user", "content": asked["question"]}]
    chosen = asked.get("model", "")
    base = await run_in_threadpool(_base_of, server, owner, chosen)
    names: Sequence[str] = (chosen, base) if base else (chosen,)
    answers = await samples.ask_all(request, [(name, messages) for name in names])
    shown = [
        tag("section", tag("h2", name), _said(one), class_="card") for name, one in zip(names, answers, strict=True)
    ]
    return tag("div", *shown, class_="answers", aria_live="polite")


def _said(one: samples.Answer) -> Html:
    if one.error:
        return tag("p", one.error, class_="error")
    calls = [tag("pre", json.dumps(call, indent=2, ensure_ascii=False)) for call in one.tool_calls]
    return join((tag("pre", one.text), *calls))


def _names(server: Server, owner: str) -> list[str]:
    return [*(row["tuned"] for row in models.tuned_rows(server, owner)), *server.names]


def _base_of(server: Server, owner: str, name: str) -> str | None:
    found = [row["model"] for row in models.tuned_rows(server, owner) if row["tuned"] == name]
    return str(found[0]) if found else None


ROUTES = [Route("/ask", ask, methods=["GET", "POST"])]
