"""What the routes with answers share: asking a model, its options, its usage and its tool calls."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from tuneport.plugin import AnswerPiece, CallPiece, Ref, Reply, TokenLogprob
from tuneport_server.answering.questions import Delivery, Question
from tuneport_server.limits import ResourceLimits
from tuneport_server.server import owner_of, server_of
from tuneport_server.wire import Body, WireError, bad

_LOOK_SECONDS = 1.0  # between two checks whether the client is still connected

Positive = Annotated[int, Field(ge=1, le=2**31)]
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Alternatives = Annotated[int, Field(ge=0, le=20)]
FunctionName = Annotated[str, Field(min_length=1, max_length=64)]


class Function(Body):
    """A function that the model may call; `parameters` is a JSON Schema."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class JsonSchema(Body):
    """A named JSON Schema that the answer must follow. `schema_` is `schema` on the wire."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w-]+$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class CommonOptions(Body):
    """The options that both routes name alike."""

    temperature: Temperature | None = None
    top_p: TopP | None = None
    parallel_tool_calls: bool | None = None
    top_logprobs: Alternatives | None = None


def options_of(given: CommonOptions, limits: ResourceLimits, *, most: int | None, **more: Any) -> dict[str, Any]:
    """Return the options for `Model.reply`: `most` is the request's limit in tokens, `more` are other options by their
    names in `GenerateOptions`; None means absent.
    """
    options = {
        "temperature": 1.0 if given.temperature is None else given.temperature,
        "top_p": 1.0 if given.top_p is None else given.top_p,
        "parallel_tool_calls": given.parallel_tool_calls,
        **more,
    }
    most = min(most or limits.answer_default, limits.answer_tokens)
    options = {"max_tokens": most, **{name: value for name, value in options.items() if value is not None}}
    if not options.get("tools"):
        options.pop("parallel_tool_calls", None)
    return options


def schema_of(kind: Literal["text", "json_object", "json_schema"], named: JsonSchema | None) -> Any:
    """Return the `schema` option of a format: None, True (any JSON object), or a JSON Schema. Raises WireError."""
    if kind == "json_schema":
        if named is None or named.schema_ is None:
            raise bad("A format of the type json_schema needs a schema.", "schema", "missing_required_parameter")
        return named.schema_
    return True if kind == "json_object" else None


def tools_of(functions: Sequence[Function]) -> tuple[Mapping[str, Any], ...]:
    """Return the `tools` option: functions in the shape that chat templates read."""
    return tuple({"type": "function", "function": one.model_dump(exclude_none=True)} for one in functions)


async def ask(
    request: Request,
    ref: Ref,
    messages: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    *,
    count: int = 1,
    stream: bool = False,
    params: Mapping[str, str] | None = None,
) -> tuple[Question, asyncio.Queue[Delivery]]:
    """Put a question to a model. Returns it with a queue of what the model delivers. `params` maps options to the
    request's fields, where those have other names, for errors.
    """
    items: asyncio.Queue[Delivery] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def deliver(item: Delivery) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has shut down
            loop.call_soon_threadsafe(items.put_nowait, item)

    question = Question(
        messages=messages,
        options=options,
        count=count,
        stream=stream,
        deliver=deliver,
        owner=owner_of(request),
        params=dict(params or {}),
    )
    await run_in_threadpool(server_of(request).models.ask, ref, question)
    return question, items


async def next_delivery(request: Request, question: Question, items: asyncio.Queue[Delivery]) -> Delivery:
    """Wait for the next delivery. Raises WireError when the client disconnects."""
    while True:
        try:
            return await asyncio.wait_for(items.get(), _LOOK_SECONDS)
        except TimeoutError:
            if await request.is_disconnected():
                question.gone.set()
                raise WireError(400, "The client closed the connection.") from None


async def all_replies(request: Request, question: Question, items: asyncio.Queue[Delivery]) -> list[Reply]:
    """Wait for the replies to a question that does not stream, one for each choice. Raises WireError."""
    item = await next_delivery(request, question, items)
    if isinstance(item, WireError):
        raise item
    assert isinstance(item, list)  # a question that does not stream gets no pieces
    return item


async def answer(
    request: Request,
    ref: Ref,
    messages: Sequence[Mapping[str, Any]],
    max_tokens: int | None = None,
    temperature: float = 0.0,
) -> Reply:
    """Return a model's answer to a conversation; the most likely one at temperature 0. Raises WireError."""
    options = {"max_tokens": max_tokens or server_of(request).limits.answer_default, "temperature": temperature}
    question, items = await ask(request, ref, messages, options)
    return (await all_replies(request, question, items))[0]


def tokens_of(replies: Sequence[Reply]) -> tuple[int, int] | None:
    """Return the tokens of the prompt, counted once, and of all answers; None if the backend does not count."""
    prompt, written = replies[0].prompt_tokens, [one.completion_tokens for one in replies]
    if prompt is None or None in written:
        return None
    return prompt, sum(one for one in written if one is not None)


def calls_of(one: Reply) -> list[dict[str, Any]]:
    """Return a reply's tool calls as the chat wire has them, each with a unique id."""
    return [{**call, "id": _call_id()} for call in one.tool_calls]


def _call_id() -> str:
    return f"call_{secrets.token_hex(8)}"


def logprobs_of(one: Reply) -> list[dict[str, Any]] | None:
    """Return the log probabilities of a reply's tokens, as both routes have them; None if not requested."""
    if one.logprobs is None:
        return None
    return [logprob_of(token) for token in one.logprobs]


def logprob_of(token: TokenLogprob) -> dict[str, Any]:
    """Return the log probability of a token, with those of its alternatives."""
    return {**_logprob(token), "top_logprobs": [_logprob(other) for other in token.top]}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDelta:
    """A part of a tool call, like `CallPiece`, with the call's id on the wire."""

    id: str
    index: int
    name: str | None
    arguments: str


class Streamed:
    """What was sent of one streamed answer: its pieces, and the ids of its calls."""

    def __init__(self) -> None:
        self.text = self.thinking = ""
        self.logprobs = 0
        self._ids: list[str] = []

    def take(self, piece: AnswerPiece) -> list[CallDelta]:
        """Record a piece that is sent now. Returns its parts of calls."""
        self.text += piece.text
        self.thinking += piece.thinking
        self.logprobs += len(piece.logprobs)
        deltas = []
        for one in piece.calls:
            if one.name is not None:
                self._ids.append(_call_id())
            deltas.append(CallDelta(id=self._ids[one.index], index=one.index, name=one.name, arguments=one.arguments))
        return deltas

    def rest(self, reply: Reply) -> AnswerPiece:
        """Return what a reply has beyond the pieces that were sent: everything that its model does not stream."""
        calls = [] if self._ids else [one["function"] for one in reply.tool_calls]
        return AnswerPiece(
            # A call that was sent and then cut is not text.
            text="" if self._ids and not reply.tool_calls else reply.text[len(self.text) :],
            calls=tuple(
                CallPiece(index=index, name=one["name"], arguments=one["arguments"]) for index, one in enumerate(calls)
            ),
            logprobs=(reply.logprobs or ())[self.logprobs :],
            thinking=(reply.thinking or "")[len(self.thinking) :],
        )


def _logprob(one: TokenLogprob) -> dict[str, Any]:
    return {"token": one.token, "bytes": list(one.bytes), "logprob": max(one.logprob, -9999.0)}
