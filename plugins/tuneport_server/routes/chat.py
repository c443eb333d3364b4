"""`/v1/chat/completions`: one or more answers, complete or as a stream of server-sent events."""

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
from tuneport_server.answering.questions import Delivery, Question
from tuneport_server.bodies import read_json
from tuneport_server.limits import ResourceLimits
from tuneport_server.routes import answers
from tuneport_server.routes.models import resolve
from tuneport_server.server import owned_of, server_of
from tuneport_server.wire import Body, WireError, bad, check_query, parse, reply

# Not supported, and would change the answer; each with the values that have no effect.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
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
# Accepted, without effect on the answer.
_IGNORED = (
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
)
# The request's fields for options of an answer that have other names.
_PARAMS = {"schema": "response_format"}


class _Call(Body):
    """A call in a message. A client may send it back with more fields, such as `parsed_arguments` or `index`."""

    model_config = ConfigDict(extra="ignore")

    id: str | None = None
    type: Literal["function"] = "function"
    function: dict[str, Any]

    @model_validator(mode="after")
    def _check(self) -> _Call:
        if not isinstance(self.function.get("name"), str):
            raise ValueError("a tool call is {'id', 'type': 'function', 'function': {'name', 'arguments'}}")
        if not isinstance(self.function.get("arguments"), str):
            raise ValueError("the arguments of a tool call are a string that contains JSON")
        return self

    def to_plain(self) -> dict[str, Any]:
        function = {name: self.function[name] for name in ("name", "arguments")}
        return {**({"id": self.id} if self.id is not None else {}), "type": "function", "function": function}


class _Message(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None  # the thinking of an earlier answer; templates read it between calls
    reasoning: str | None = None  # another name for it
    annotations: list[Any] | None = None  # of an earlier answer; ignored
    parsed: Any = None  # what a client parsed from an earlier answer; ignored

    @model_validator(mode="after")
    def _check(self) -> _Message:
        if self.content is None and not self.tool_calls and self.refusal is None:
            raise ValueError("a message has content or tool_calls")
        for part in self.content if isinstance(self.content, list) else ():
            if part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise ValueError("this server supports text parts only: {'type': 'text', 'text': …}")
        return self

    def to_plain(self) -> dict[str, Any]:
        given = self.model_dump(include={"role", "content", "name", "tool_call_id"}, exclude_none=True)
        if isinstance(self.content, list):
            given["content"] = "".join(part["text"] for part in self.content)
        elif self.content is None and self.refusal is not None:
            given["content"] = self.refusal
        if self.tool_calls:
            given["tool_calls"] = [call.to_plain() for call in self.tool_calls]
        if self.role == "assistant" and (thought := self.reasoning_content or self.reasoning):
            given["reasoning_content"] = thought
        return given


class _Tool(Body):
    type: Literal["function"]
    function: answers.Function


class _ChosenFunction(Body):
    name: answers.FunctionName


class _Chosen(Body):
    type: Literal["function"]
    function: _ChosenFunction


class _Format(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: answers.JsonSchema | None = None


class _StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


_StopText = Annotated[str, Field(min_length=1, max_length=256)]


class _Completion(answers.CommonOptions):
    model: Annotated[str, Field(min_length=1, max_length=512)]
    messages: Annotated[list[_Message], Field(min_length=1, max_length=4096)]
    max_tokens: answers.Positive | None = None
    max_completion_tokens: answers.Positive | None = None
    stop: _StopText | Annotated[list[_StopText], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: Annotated[list[_Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["auto", "none", "required"] | _Chosen | None = None
    response_format: _Format | None = None
    logprobs: bool | None = None
    frequency_penalty: answers.Penalty | None = None
    presence_penalty: answers.Penalty | None = None


async def complete(request: Request) -> Response:
    """`POST /chat/completions`."""
    check_query(request.query_params)
    server = server_of(request)
    body = await read_json(request, server.limits)
    for name, neutral in _UNSUPPORTED.items():
        if name in body and body[name] not in neutral:
            raise bad(f"{name}: this server does not support it.", name, "unsupported_parameter")
    completion = parse(
        _Completion, {key: value for key, value in body.items() if key not in _UNSUPPORTED and key not in _IGNORED}
    )
    count = completion.n or 1
    if count > server.limits.choices:
        raise bad(f"n: at most {server.limits.choices}.", "n", "invalid_value")
    ref = await run_in_threadpool(resolve, server, owned_of(request), completion.model)
    options = _options(completion, server.limits)
    messages = [message.to_plain() for message in completion.messages]
    question, items = await answers.ask(
        request, ref, messages, options, count=count, stream=bool(completion.stream), params=_PARAMS
    )
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": completion.model}
    if not completion.stream:
        replies = await answers.all_replies(request, question, items)
        return reply({"object": "chat.completion", **head, **_choices(replies)})
    # Before the response begins, so that an error sets its status.
    first = await answers.next_delivery(request, question, items)
    if isinstance(first, WireError):
        raise first
    usage = bool(completion.stream_options and completion.stream_options.include_usage)
    events = _events(head, first, items, question, usage=usage)
    return StreamingResponse(events, media_type="text/event-stream")


def _options(completion: _Completion, limits: ResourceLimits) -> dict[str, Any]:
    stop = completion.stop if completion.stop is not None else []
    choice = completion.tool_choice
    if completion.top_logprobs and not completion.logprobs:
        raise bad("top_logprobs: needs logprobs: true.", "top_logprobs", "invalid_value")
    form = completion.response_format
    return answers.options_of(
        completion,
        limits,
        most=completion.max_completion_tokens or completion.max_tokens,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=completion.seed % 2**63 if completion.seed is not None else None,
        tools=answers.tools_of([one.function for one in completion.tools or ()]),
        tool_choice={"name": choice.function.name} if isinstance(choice, _Chosen) else choice,
        schema=answers.schema_of(form.type, form.json_schema) if form else None,
        logprobs=(completion.top_logprobs or 0) if completion.logprobs else None,
        frequency_penalty=completion.frequency_penalty,
        presence_penalty=completion.presence_penalty,
    )


def _choices(replies: list[Reply]) -> dict[str, Any]:
    choices = [
        {"index": index, "message": _message(one), "logprobs": _logprobs(one), "finish_reason": one.finish_reason}
        for index, one in enumerate(replies)
    ]
    usage = _usage(replies)
    return {"choices": choices, **({"usage": usage} if usage else {})}


def _message(one: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": one.text, "refusal": None}
    if one.tool_calls:
        message |= {"content": one.text or None, "tool_calls": answers.calls_of(one)}
    if one.thinking:
        message["reasoning_content"] = one.thinking
    return message


def _logprobs(one: Reply) -> dict[str, Any] | None:
    logprobs = answers.logprobs_of(one)
    return None if logprobs is None else {"content": logprobs, "refusal": None}


def _usage(replies: list[Reply]) -> dict[str, int] | None:
    tokens = answers.tokens_of(replies)
    if tokens is None:
        return None
    prompt, completion = tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def _events(
    head: dict[str, Any], first: Delivery, items: asyncio.Queue[Delivery], question: Question, *, usage: bool
) -> AsyncIterator[bytes]:
    def chunk(index: int, delta: dict[str, Any], reason: str | None = None, logprobs: Any = None) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
        more = {"usage": None} if usage else {}
        return _event({"object": "chat.completion.chunk", **head, "choices": [choice], **more})

    try:
        for index in range(question.count):
            yield chunk(index, {"role": "assistant", "content": ""})
        item, streams = first, [answers.Streamed() for _ in range(question.count)]
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


def _deltas(stream: answers.Streamed, piece: AnswerPiece) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Yield the deltas of a piece. The first one of its answer has the log probabilities."""
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
    logprobs = [answers.logprob_of(one) for one in piece.logprobs]
    for delta in deltas or ([{}] if logprobs else []):
        yield delta, {"content": logprobs, "refusal": None} if logprobs else None
        logprobs = []


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"


ROUTES = [Route("/v1/chat/completions", complete, methods=["POST"])]
