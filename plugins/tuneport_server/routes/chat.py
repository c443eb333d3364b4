"""`/v1/chat/completions`: an answer, or several, at once or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tuneport.plugin import AnswerPiece, Reply
from tuneport_server import asking
from tuneport_server.answering.questions import Question, Told
from tuneport_server.bodies import read_json
from tuneport_server.routes.models import resolve
from tuneport_server.server import owner_of, server_of
from tuneport_server.settings import Limits
from tuneport_server.wire import Body, WireError, bad, only, parse, reply

# What would change the answer and is not there; each with the values that ask for nothing.
_ABSENT: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
}
# What changes nothing about the answer.
_IDLE = ("metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier", "store", "user")
# The request's fields behind the options of an answer, where they are called otherwise.
_PARAMS = {"schema": "response_format"}


class _Call(Body):
    """A call in a message. A client may add to it what it read from it, such as `parsed_arguments`, or its `index`."""

    model_config = ConfigDict(extra="ignore")

    id: str | None = None
    type: Literal["function"] = "function"
    function: dict[str, Any]

    @model_validator(mode="after")
    def _whole(self) -> _Call:
        if not isinstance(self.function.get("name"), str):
            raise ValueError("a tool call is {'id', 'type': 'function', 'function': {'name', 'arguments'}}")
        if not isinstance(self.function.get("arguments"), str):
            raise ValueError("the arguments of a tool call are a text that holds JSON")
        return self

    def plain(self) -> dict[str, Any]:
        function = {name: self.function[name] for name in ("name", "arguments")}
        return {**({"id": self.id} if self.id is not None else {}), "type": "function", "function": function}


class _Message(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None  # what an earlier answer was thought from; templates read it between calls
    reasoning: str | None = None  # the same under another name
    annotations: list[Any] | None = None  # of an earlier answer, and no part of what is read
    parsed: Any = None  # what the client read from an earlier answer's text

    @model_validator(mode="after")
    def _whole(self) -> _Message:
        if self.content is None and not self.tool_calls and self.refusal is None:
            raise ValueError("a message has content or tool_calls")
        for part in self.content if isinstance(self.content, list) else ():
            if part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise ValueError("this server reads text parts only: {'type': 'text', 'text': …}")
        return self

    def plain(self) -> dict[str, Any]:
        given = self.model_dump(include={"role", "content", "name", "tool_call_id"}, exclude_none=True)
        if isinstance(self.content, list):
            given["content"] = "".join(part["text"] for part in self.content)
        elif self.content is None and self.refusal is not None:
            given["content"] = self.refusal
        if self.tool_calls:
            given["tool_calls"] = [call.plain() for call in self.tool_calls]
        if self.role == "assistant" and (thought := self.reasoning_content or self.reasoning):
            given["reasoning_content"] = thought
        return given


class _Tool(Body):
    type: Literal["function"]
    function: asking.Function


class _ChosenFunction(Body):
    name: asking.FunctionName


class _Chosen(Body):
    type: Literal["function"]
    function: _ChosenFunction


class _Format(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: asking.JsonSchema | None = None


class _StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


_StopText = Annotated[str, Field(min_length=1, max_length=256)]


class _Asked(asking.Settings):
    model: Annotated[str, Field(min_length=1, max_length=512)]
    messages: Annotated[list[_Message], Field(min_length=1, max_length=4096)]
    max_tokens: asking.Positive | None = None
    max_completion_tokens: asking.Positive | None = None
    stop: _StopText | Annotated[list[_StopText], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: Annotated[list[_Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["auto", "none", "required"] | _Chosen | None = None
    response_format: _Format | None = None
    logprobs: bool | None = None
    frequency_penalty: asking.Penalty | None = None
    presence_penalty: asking.Penalty | None = None


async def complete(request: Request) -> Response:
    """`POST /chat/completions`."""
    only(request.query_params)
    server = server_of(request)
    body = await read_json(request, server.limits)
    for name, neutral in _ABSENT.items():
        if name in body and body[name] not in neutral:
            raise bad(f"{name}: this server does not support it.", name, "unsupported_parameter")
    asked = parse(_Asked, {key: value for key, value in body.items() if key not in _ABSENT and key not in _IDLE})
    count = asked.n or 1
    if count > server.limits.choices:
        raise bad(f"n: at most {server.limits.choices}.", "n", "invalid_value")
    ref = await run_in_threadpool(resolve, server, owner_of(request), asked.model)
    options = _options(asked, server.limits)
    messages = [message.plain() for message in asked.messages]
    question, items = await asking.pose(
        request, ref, messages, options, count=count, stream=bool(asked.stream), params=_PARAMS
    )
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": asked.model}
    if not asked.stream:
        replies = await asking.whole(request, question, items)
        return reply({"object": "chat.completion", **head, **_choices(replies)})
    first = await asking.next_told(request, question, items)  # before the answer begins: an error has its own status
    if isinstance(first, WireError):
        raise first
    usage = bool(asked.stream_options and asked.stream_options.include_usage)
    events = _events(head, first, items, question, usage=usage)
    return StreamingResponse(events, media_type="text/event-stream")


def _options(asked: _Asked, limits: Limits) -> dict[str, Any]:
    stop = asked.stop if asked.stop is not None else []
    choice = asked.tool_choice
    if asked.top_logprobs and not asked.logprobs:
        raise bad("top_logprobs: needs logprobs: true.", "top_logprobs", "invalid_value")
    form = asked.response_format
    return asking.options_of(
        asked,
        limits,
        most=asked.max_completion_tokens or asked.max_tokens,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=asked.seed % 2**63 if asked.seed is not None else None,
        tools=asking.tools_of([one.function for one in asked.tools or ()]),
        tool_choice={"name": choice.function.name} if isinstance(choice, _Chosen) else choice,
        schema=asking.schema_of(form.type, form.json_schema) if form else None,
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        frequency_penalty=asked.frequency_penalty,
        presence_penalty=asked.presence_penalty,
    )


def _choices(replies: list[Reply]) -> dict[str, Any]:
    choices = [
        {"index": index, "message": _message(one), "logprobs": _logprobs(one), "finish_reason": one.finish_reason}
        for index, one in enumerate(replies)
    ]
    usage = _usage(replies)
    return {"choices": choices, **({"usage": usage} if usage else {})}


def _message(one: Reply) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": one.text, "refusal": None}
    if one.tool_calls:
        said |= {"content": one.text or None, "tool_calls": asking.calls_of(one)}
    if one.thinking:
        said["reasoning_content"] = one.thinking
    return said


def _logprobs(one: Reply) -> dict[str, Any] | None:
    told = asking.logprobs_of(one)
    return None if told is None else {"content": told, "refusal": None}


def _usage(replies: list[Reply]) -> dict[str, int] | None:
    tokens = asking.tokens_of(replies)
    if tokens is None:
        return None
    prompt, completion = tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def _events(
    head: dict[str, Any], first: Told, items: asyncio.Queue[Told], question: Question, *, usage: bool
) -> AsyncIterator[bytes]:
    def chunk(index: int, delta: dict[str, Any], reason: str | None = None, logprobs: Any = None) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
        more = {"usage": None} if usage else {}
        return _event({"object": "chat.completion.chunk", **head, "choices": [choice], **more})

    try:
        for index in range(question.count):
            yield chunk(index, {"role": "assistant", "content": ""})
        item, streams = first, [asking.Streamed() for _ in range(question.count)]
        while isinstance(item, tuple):
            index, piece = item
            for delta, logprobs in _deltas(streams[index], piece):
                yield chunk(index, delta, None, logprobs)
            item = await items.get()
        if isinstance(item, WireError):
            yield _event({"error": item.body()})
            return
        for index, one in enumerate(item):
            for delta, logprobs in _deltas(streams[index], streams[index].rest(one)):
                yield chunk(index, delta, None, logprobs)
            yield chunk(index, {}, one.finish_reason)
        if usage:
            yield _event({"object": "chat.completion.chunk", **head, "choices": [], "usage": _usage(item)})
        yield b"data: [DONE]\n\n"
    finally:
        question.gone.set()


def _deltas(stream: asking.Streamed, piece: AnswerPiece) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """The deltas of a piece; the first of its answer has its log-probabilities."""
    if piece.thinking:
        yield {"reasoning_content": piece.thinking}, None
    deltas: list[dict[str, Any]] = [{"content": piece.text}] if piece.text else []
    for call in stream.take(piece):
        if call.name is not None:
            function = {"name": call.name, "arguments": ""}
            deltas.append(
                {"tool_calls": [{"index": call.index, "id": call.id, "type": "function", "function": function}]}
            )
        if call.arguments:
            deltas.append({"tool_calls": [{"index": call.index, "function": {"arguments": call.arguments}}]})
    told = [asking.logprob_of(one) for one in piece.logprobs]
    for delta in deltas or ([{}] if told else []):
        yield delta, {"content": told, "refusal": None} if told else None
        told = []


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"


ROUTES = [Route("/v1/chat/completions", complete, methods=["POST"])]
