"""`/ask`: a form that asks a tuned model and its base side by side. page.js shows the answers as they arrive."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tuneport.errors import TuneportError
from tuneport.plugin import html
from tuneport_server.bodies import read_fields
from tuneport_server.page import samples
from tuneport_server.page.frame import document
from tuneport_server.routes import answers, models
from tuneport_server.server import Server, owned_of, server_of
from tuneport_server.store import Owned
from tuneport_server.wire import WireError, bad, from_tuneport

_LINES = "application/x-ndjson"
_DIRECTION = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # these reorder the text around them


@dataclass(frozen=True, slots=True)
class _Prompt:
    """The content of the form: the names of the models, the messages and the options."""

    names: Sequence[str]
    messages: samples.Messages
    max_tokens: int
    temperature: float


async def ask(request: Request) -> Response:
    """`GET /ask` shows the form; `POST /ask` answers, with a tuned model next to its base: as a page, or as JSON lines
    if the client accepts them.
    """
    server, owned = server_of(request), owned_of(request)
    names = await run_in_threadpool(_names, server, owned)
    fields = {} if request.method == "GET" else await read_fields(request, server.limits)
    shown, status = html.Html(""), 200
    if fields.get("question"):
        try:
            prompt = await run_in_threadpool(_read, server, owned, fields)
            if request.headers.get("accept") == _LINES:
                return StreamingResponse(_lines(request, prompt), media_type=_LINES)
            shown = await _answers(request, prompt)
        except WireError as error:
            shown, status = html.tag("p", error.message, class_="error card", role="alert"), error.status
    form = _form(server, names, {"model": request.query_params.get("model", ""), **fields})
    return document(
        "Playground", html.join((html.tag("h1", "Playground"), form, shown)), owned.owner, here="/ask", status=status
    )


def _form(server: Server, names: Sequence[str], fields: dict[str, str]) -> html.Html:
    limits, chosen = server.limits, fields["model"]
    most = fields.get("max_tokens", min(limits.answer_default, limits.answer_tokens))
    temperature = fields.get("temperature", 0)
    numbers = (
        html.tag("label", "Max tokens", _number("max_tokens", most, min=1, max=limits.answer_tokens, step=1)),
        html.tag("label", "Temperature", _number("temperature", temperature, min=0, max=2, step="any")),
    )
    choices = [html.tag("option", one, selected=one == chosen) for one in names]
    return html.tag(
        "form",
        html.tag("label", "Model", for_="model"),
        html.tag("select", choices, name="model", id="model"),
        html.tag("label", "System prompt (optional)", for_="system"),
        html.tag("textarea", fields.get("system", ""), name="system", id="system", rows=2),
        html.tag("label", "Question", for_="question"),
        html.tag("textarea", fields.get("question", ""), name="question", id="question", rows=5, required=True),
        html.tag("div", numbers, class_="fields"),
        html.tag("button", "Ask", type="submit", class_="first"),
        method="post",
        action="/ask",
        class_="card",
        data_stream=True,
    )


def _number(name: str, value: html.Attribute, **bounds: html.Attribute) -> html.Html:
    return html.tag("input", type="number", name=name, value=value, required=True, **bounds)


def _read(server: Server, owned: Owned, fields: dict[str, str]) -> _Prompt:
    """Read the form's fields. Raises WireError for a value that is not a number or out of range."""
    limits = server.limits
    # A browser's form ends lines with \r\n, its script with \n: both should ask the same.
    system, question = (fields.get(name, "").replace("\r\n", "\n") for name in ("system", "question"))
    before = [{"role": "system", "content": system}] if system else []
    chosen = fields.get("model", "")
    base = _base_of(owned, chosen)
    default = min(limits.answer_default, limits.answer_tokens)
    most = _value(fields.get("max_tokens") or default, "Max tokens", 1, limits.answer_tokens)
    if not most.is_integer():
        raise bad("Max tokens: Enter a whole number.")
    return _Prompt(
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


async def _answers(request: Request, prompt: _Prompt) -> html.Html:
    """Return the answers of the chosen model and, if it is a tuned one, of its base."""
    questions = [(name, prompt.messages) for name in prompt.names]
    replies = await samples.ask_all(request, questions, prompt.max_tokens, prompt.temperature)
    shown = [
        html.tag("section", html.tag("h2", name), _answer(one, prompt.max_tokens), class_="card")
        for name, one in zip(prompt.names, replies, strict=True)
    ]
    return html.tag("div", *shown, class_="answers", aria_live="polite")


async def _lines(request: Request, prompt: _Prompt) -> AsyncIterator[bytes]:
    """Yield the names of the models, then for each (`at`) the pieces of its answer (`text`), calls, `notice` or
    `error`.
    """
    parts: asyncio.Queue[dict[str, object] | None] = asyncio.Queue()
    tasks = [asyncio.create_task(_stream(request, place, prompt, parts)) for place in range(len(prompt.names))]
    try:
        yield _line({"names": [_without_direction(name) for name in prompt.names]})
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


async def _stream(
    request: Request, place: int, prompt: _Prompt, parts: asyncio.Queue[dict[str, object] | None]
) -> None:
    """Put the parts of one model's answer into the queue, and None at its end."""
    options = {"max_tokens": prompt.max_tokens, "temperature": prompt.temperature}
    question = None
    try:
        ref = await run_in_threadpool(models.resolve, server_of(request), owned_of(request), prompt.names[place])
        question, items = await answers.ask(request, ref, prompt.messages, options, stream=True)
        sent, item = "", await items.get()
        while isinstance(item, tuple):
            sent += item[1].text
            if item[1].text:
                parts.put_nowait({"at": place, "text": item[1].text})
            item = await items.get()
        if isinstance(item, WireError):
            raise item
        reply = item[0]
        parts.put_nowait({"at": place, "text": reply.text[len(sent) :]})
        for call in reply.tool_calls:
            parts.put_nowait({"at": place, "call": json.dumps(call, indent=2, ensure_ascii=False)})
        if reply.finish_reason == "length":
            parts.put_nowait({"at": place, "notice": samples.cut_message(prompt.max_tokens)})
    except WireError as error:
        parts.put_nowait({"at": place, "error": error.message})
    except TuneportError as error:
        parts.put_nowait({"at": place, "error": from_tuneport(error).message})
    finally:
        parts.put_nowait(None)
        if question is not None:
            question.gone.set()


def _line(part: dict[str, object]) -> bytes:
    safe = {name: _without_direction(one) if isinstance(one, str) else one for name, one in part.items()}
    return json.dumps(safe).encode() + b"\n"


def _without_direction(text: str) -> str:
    return _DIRECTION.sub("\ufffd", text)


def _answer(one: samples.Answer, max_tokens: int) -> html.Html:
    if one.error:
        return html.tag("p", one.error, class_="error")
    calls = [html.tag("pre", json.dumps(call, indent=2, ensure_ascii=False)) for call in one.tool_calls]
    return html.join((html.tag("pre", one.text), *calls, samples.cut_notice(max_tokens) if one.cut else ""))


def _names(server: Server, owned: Owned) -> list[str]:
    return [*(row["tuned"] for row in owned.models()), *server.names]


def _base_of(owned: Owned, name: str) -> str | None:
    row = owned.model(name)
    return str(row["model"]) if row is not None else None


ROUTES = [Route("/ask", ask, methods=["GET", "POST"])]
