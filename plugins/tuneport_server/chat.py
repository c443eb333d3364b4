"""`/v1/chat/completions`: an answer, or several, at once or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tuneport import Ref, Reply
from tuneport_server.bodies import read_json
from tuneport_server.desks import Question, Told
from tuneport_server.models import resolve
from tuneport_server.server import owner_of, server_of
from tuneport_server.settings import Limits
from tuneport_server.wire import Body, WireError, bad, only, parse, reply

_LOOK_SECONDS = 1.0  # between two looks whether the client is still there

# What would change the answer and is not there; each with the values that ask for nothing.
_ABSENT: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "frequency_penalty": (None, 0),
    "function_call": (None,),
    "functions": (None,),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "modalities": (None, ["text"]),
    "prediction": (None,),
    "presence_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
    "tool_choice": (None, "auto", "none"),
    "top_logprobs": (None, 0),
    "web_search_options": (None,),
}
# What changes nothing about the answer.
_IDLE = ("metadata", "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user")


class _Message(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> _Message:
        if self.content is None and not self.tool_calls and self.refusal is None:
            raise ValueError("a message has content or tool_calls")
        for part in self.content if isinstance(self.content, list) else ():
            if part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise ValueError("this server reads text parts only: {'type': 'text', 'text': …}")
        for call in self.tool_calls or ():
            function = call.get("function")
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                raise ValueError("a tool call is {'id', 'type': 'function', 'function': {'name', 'arguments'}}")
            if not isinstance(function.get("arguments"), str):
                raise ValueError("the arguments of a tool call are a text that holds JSON")
        return self

    def plain(self) -> dict[str, Any]:
        given = self.model_dump(exclude_none=True, exclude={"refusal"})
        if isinstance(self.content, list):
            given["content"] = "".join(part["text"] for part in self.content)
        elif self.content is None and self.refusal is not None:
            given["content"] = self.refusal
        return given


class _Function(Body):
    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(Body):
    type: Literal["function"]
    function: _Function


class _StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


_Positive = Annotated[int, Field(ge=1, le=2**31)]
_StopText = Annotated[str, Field(min_length=1, max_length=256)]


class _Asked(Body):
    model: Annotated[str, Field(min_length=1, max_length=512)]
    messages: Annotated[list[_Message], Field(min_length=1, max_length=4096)]
    max_tokens: _Positive | None = None
    max_completion_tokens: _Positive | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stop: _StopText | Annotated[list[_StopText], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: Annotated[list[_Tool], Field(max_length=128)] | None = None


async def complete(request: Request) -> Response:
    """`POST /chat/completions`."""
    only(request.query_params)
    server = server_of(request)
    body = await read_json(request, server.limits)
    for name, neutral in _ABSENT.items():
        if name in body and body[name] not in neutral:
            raise bad(f"{name}: this server does not have that.", name, "unsupported_parameter")
    toolless = body.get("tool_choice") == "none"
    asked = parse(_Asked, {key: value for key, value in body.items() if key not in _ABSENT and key not in _IDLE})
    count = asked.n or 1
    if count > server.limits.choices:
        raise bad(f"n: at most {server.limits.choices}.", "n", "invalid_value")
    ref = await run_in_threadpool(resolve, server, owner_of(request), asked.model)
    options = _options(asked, server.limits, tools=not toolless)
    piecewise = bool(asked.stream) and not options["tools"]  # tool calls are known only once the whole answer is
    messages = [message.plain() for message in asked.messages]
    question, items = await _pose(request, ref, messages, options, count=count, stream=piecewise)
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": asked.model}
    if not asked.stream:
        return reply({"object": "chat.completion", **head, **_choices(await _whole(request, question, items))})
    first = await _item(request, question, items)  # before the answer begins, so that an error has its own status
    if isinstance(first, WireError):
        raise first
    usage = bool(asked.stream_options and asked.stream_options.include_usage)
    events = _events(head, first, items, question, usage=usage)
    return StreamingResponse(events, media_type="text/event-stream")


async def answer(
    request: Request, ref: Ref, messages: Sequence[Mapping[str, Any]], max_tokens: int | None = None
) -> Reply:
    """A model's likeliest answer to a conversation. Raises WireError."""
    server = server_of(request)
    options = {"max_tokens": max_tokens or server.limits.answer_default, "temperature": 0.0}
    question, items = await _pose(request, ref, messages, options)
    return (await _whole(request, question, items))[0]


async def _pose(
    request: Request,
    ref: Ref,
    messages: Sequence[Mapping[str, Any]],
    options: dict[str, Any],
    *,
    count: int = 1,
    stream: bool = False,
) -> tuple[Question, asyncio.Queue[Told]]:
    """Put a question to a model; the queue gets what its desk tells."""
    items: asyncio.Queue[Told] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(item: Told) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended, and nobody listens
            loop.call_soon_threadsafe(items.put_nowait, item)

    question = Question(
        messages=messages, options=options, count=count, stream=stream, tell=tell, owner=owner_of(request)
    )
    await run_in_threadpool(server_of(request).desks.ask, ref, question)
    return question, items


def _options(asked: _Asked, limits: Limits, *, tools: bool) -> dict[str, Any]:
    stop = asked.stop if asked.stop is not None else []
    return {
        "max_tokens": min(
            asked.max_completion_tokens or asked.max_tokens or limits.answer_default, limits.answer_tokens
        ),
        "temperature": 1.0 if asked.temperature is None else asked.temperature,
        "top_p": 1.0 if asked.top_p is None else asked.top_p,
        "stop": (stop,) if isinstance(stop, str) else tuple(stop),
        "seed": asked.seed % 2**63 if asked.seed is not None else None,
        "tools": tuple(one.model_dump(exclude_none=True) for one in asked.tools or ()) if tools else (),
    }


async def _item(request: Request, question: Question, items: asyncio.Queue[Told]) -> Told:
    """The next thing that the desk tells; a client that has gone is not waited for."""
    while True:
        try:
            return await asyncio.wait_for(items.get(), _LOOK_SECONDS)
        except TimeoutError:
            if await request.is_disconnected():
                question.gone.set()
                raise WireError(400, "The request was broken off.") from None


async def _whole(request: Request, question: Question, items: asyncio.Queue[Told]) -> list[Reply]:
    item = await _item(request, question, items)
    if isinstance(item, WireError):
        raise item
    assert isinstance(item, list)  # what is not asked to stream gets no pieces
    return item


def _choices(replies: list[Reply]) -> dict[str, Any]:
    choices = [
        {"index": index, "message": _message(one), "logprobs": None, "finish_reason": one.finish_reason}
        for index, one in enumerate(replies)
    ]
    usage = _usage(replies)
    return {"choices": choices, **({"usage": usage} if usage else {})}


def _message(one: Reply) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": one.text, "refusal": None}
    if one.tool_calls:
        calls = [{**call, "id": f"call_{secrets.token_hex(8)}"} for call in one.tool_calls]
        said |= {"content": one.text or None, "tool_calls": calls}
    return said


def _usage(replies: list[Reply]) -> dict[str, int] | None:
    """Tokens of the prompt, once, and of all answers; None where the backend does not count."""
    prompt, spent = replies[0].prompt_tokens, [one.completion_tokens for one in replies]
    if prompt is None or None in spent:
        return None
    completion = sum(one for one in spent if one is not None)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def _events(
    head: dict[str, Any], first: Told, items: asyncio.Queue[Told], question: Question, *, usage: bool
) -> AsyncIterator[bytes]:
    def chunk(index: int, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": reason}
        more = {"usage": None} if usage else {}
        return _event({"object": "chat.completion.chunk", **head, "choices": [choice], **more})

    try:
        for index in range(question.count):
            yield chunk(index, {"role": "assistant", "content": ""})
        item, told = first, isinstance(first, tuple)
        while isinstance(item, tuple):
            index, piece = item
            if piece:
                yield chunk(index, {"content": piece})
            item = await items.get()
        if isinstance(item, WireError):
            yield _event({"error": item.body()})
            return
        for index, one in enumerate(item):
            if not told:
                yield chunk(index, _delta(one))
            yield chunk(index, {}, one.finish_reason)
        if usage:
            yield _event({"object": "chat.completion.chunk", **head, "choices": [], "usage": _usage(item)})
        yield b"data: [DONE]\n\n"
    finally:
        question.gone.set()


def _delta(one: Reply) -> dict[str, Any]:
    said = _message(one)
    calls = [{"index": number, **call} for number, call in enumerate(said.get("tool_calls", ()))]
    return {"content": said["content"], **({"tool_calls": calls} if calls else {})}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"


ROUTES = [Route("/v1/chat/completions", complete, methods=["POST"])]
