"""`/ask`: a form that asks a tuned model and its base side by side; page.js shows the answers as they come."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tuneport.errors import TuneportError
from tuneport_server import asking, models, samples
from tuneport_server.bodies import read_fields
from tuneport_server.page.frame import document
from tuneport_server.page.markup import Html, join, steady, tag
from tuneport_server.server import Server, owner_of, server_of
from tuneport_server.wire import WireError, bad, of_tuneport

_LINES = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the form asks: the names of the models, the messages and the options."""

    names: Sequence[str]
    messages: samples.Messages
    max_tokens: int
    temperature: float


async def ask(request: Request) -> Response:
    """`GET /ask` shows the form; `POST /ask` answers, a tuned model beside its base: as a page, or as JSON lines for a
    script that accepts them.
    """
    server, owner = server_of(request), owner_of(request)
    names = await run_in_threadpool(_names, server, owner)
    fields = {} if request.method == "GET" else await read_fields(request, server.limits)
    answers, status = Html(""), 200
    if fields.get("question"):
        try:
            asked = await run_in_threadpool(_read, server, owner, fields)
            if request.headers.get("accept") == _LINES:
                return StreamingResponse(_lines(request, asked), media_type=_LINES)
            answers = await _answers(request, asked)
        except WireError as error:
            answers, status = tag("p", error.message, class_="error card", role="alert"), error.status
    form = _form(server, names, {"model": request.query_params.get("model", ""), **fields})
    return document("Playground", join((tag("h1", "Playground"), form, answers)), owner, here="/ask", status=status)


def _form(server: Server, names: Sequence[str], fields: dict[str, str]) -> Html:
    limits, chosen = server.limits, fields["model"]
    most = fields.get("max_tokens", min(limits.answer_default, limits.answer_tokens))
    numbers = (
        tag("label", "Max tokens", _number("max_tokens", most, min=1, max=limits.answer_tokens, step=1)),
        tag("label", "Temperature", _number("temperature", fields.get("temperature", 0), min=0, max=2, step="any")),
    )
    return tag(
        "form",
        tag("label", "Model", for_="model"),
        tag("select", *(tag("option", one, selected=one == chosen) for one in names), name="model", id="model"),
        tag("label", "System prompt, if any", for_="system"),
        tag("textarea", fields.get("system", ""), name="system", id="system", rows=2),
        tag("label", "Question", for_="question"),
        tag("textarea", fields.get("question", ""), name="question", id="question", rows=5, required=True),
        tag("div", *numbers, class_="fields"),
        tag("button", "Ask", type="submit", class_="first"),
        method="post",
        action="/ask",
        class_="card",
        data_stream=True,
    )


def _number(name: str, value: object, **bounds: object) -> Html:
    return tag("input", type="number", name=name, value=value, required=True, **bounds)


def _read(server: Server, owner: str, fields: dict[str, str]) -> _Asked:
    """The form's fields. Raises WireError for a number that is none or out of bounds."""
    limits = server.limits
    # A browser's form ends lines with \r\n, its script with \n: both ask the same.
    system, question = (fields.get(name, "").replace("\r\n", "\n") for name in ("system", "question"))
    before = [{"role": "system", "content": system}] if system else []
    chosen = fields.get("model", "")
    base = _base_of(server, owner, chosen)
    default = min(limits.answer_default, limits.answer_tokens)
    most = _value(fields.get("max_tokens") or default, "Max tokens", 1, limits.answer_tokens)
    if not most.is_integer():
        raise bad("Max tokens: Enter a whole number.")
    return _Asked(
        names=(chosen, base) if base else (chosen,),
        messages=[*before, {"role": "user", "content": question}],
        max_tokens=int(most),
        temperature=_value(fields.get("temperature") or 0, "Temperature", 0, 2),
    )


def _value(text: str | float, name: str, low: int, high: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise bad(f"{name}: Enter a number from {low:,} to {high:,}.")
    return value


async def _answers(request: Request, asked: _Asked) -> Html:
    """The answers of the chosen model and, where it is a tuned one, of what it was tuned from."""
    questions = [(name, asked.messages) for name in asked.names]
    answers = await samples.ask_all(request, questions, asked.max_tokens, asked.temperature)
    shown = [
        tag("section", tag("h2", name), _said(one, asked.max_tokens), class_="card")
        for name, one in zip(asked.names, answers, strict=True)
    ]
    return tag("div", *shown, class_="answers", aria_live="polite")


async def _lines(request: Request, asked: _Asked) -> AsyncIterator[bytes]:
    """The names of the models, then of each (`at`) the pieces of its answer (`text`), calls, `notice` or `error`."""
    parts: asyncio.Queue[dict[str, object] | None] = asyncio.Queue()
    tasks = [asyncio.create_task(_tell(request, place, asked, parts)) for place in range(len(asked.names))]
    try:
        yield _line({"names": [steady(name) for name in asked.names]})
        waiting = len(tasks)
        while waiting:
            if (part := await parts.get()) is None:
                waiting -= 1
            else:
                yield _line(part)
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _tell(request: Request, place: int, asked: _Asked, parts: asyncio.Queue[dict[str, object] | None]) -> None:
    """Put the parts of one model's answer, and None at its end."""
    options = {"max_tokens": asked.max_tokens, "temperature": asked.temperature}
    question = None
    try:
        ref = await run_in_threadpool(models.resolve, server_of(request), owner_of(request), asked.names[place])
        question, items = await asking.pose(request, ref, asked.messages, options, stream=True)
        told, item = "", await items.get()
        while isinstance(item, tuple):
            told += item[1].text
            if item[1].text:
                parts.put_nowait({"at": place, "text": item[1].text})
            item = await items.get()
        if isinstance(item, WireError):
            raise item
        reply = item[0]
        parts.put_nowait({"at": place, "text": reply.text[len(told) :]})
        for call in reply.tool_calls:
            parts.put_nowait({"at": place, "call": json.dumps(call, indent=2, ensure_ascii=False)})
        if reply.finish_reason == "length":
            parts.put_nowait({"at": place, "notice": samples.cut_words(asked.max_tokens)})
    except WireError as error:
        parts.put_nowait({"at": place, "error": error.message})
    except TuneportError as error:
        parts.put_nowait({"at": place, "error": of_tuneport(error).message})
    finally:
        parts.put_nowait(None)
        if question is not None:
            question.gone.set()


def _line(part: dict[str, object]) -> bytes:
    safe = {name: steady(one) if isinstance(one, str) else one for name, one in part.items()}
    return json.dumps(safe).encode() + b"\n"


def _said(one: samples.Answer, max_tokens: int) -> Html:
    if one.error:
        return tag("p", one.error, class_="error")
    calls = [tag("pre", json.dumps(call, indent=2, ensure_ascii=False)) for call in one.tool_calls]
    return join((tag("pre", one.text), *calls, samples.cut_notice(max_tokens) if one.cut else ""))


def _names(server: Server, owner: str) -> list[str]:
    return [*(row["tuned"] for row in models.tuned_rows(server, owner)), *server.names]


def _base_of(server: Server, owner: str, name: str) -> str | None:
    found = [row["model"] for row in models.tuned_rows(server, owner) if row["tuned"] == name]
    return str(found[0]) if found else None


ROUTES = [Route("/ask", ask, methods=["GET", "POST"])]
