"""`/v1/responses` without its stored state: text and tools in and out, whole or streamed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tuneport.plugin import Reply
from tuneport_server import asking, response_events
from tuneport_server.bodies import read_json
from tuneport_server.routes.models import resolve
from tuneport_server.routes.response_input import STATELESS, messages_of
from tuneport_server.server import owner_of, server_of
from tuneport_server.settings import Limits
from tuneport_server.wire import Body, WireError, bad, only, parse, reply

_LACKS = "This server does not support it."
# What would change the answer and is not there: the values that ask for nothing, and why others are refused.
_ABSENT: dict[str, tuple[tuple[Any, ...], str]] = {
    "background": ((False,), STATELESS),
    "context_management": (([],), _LACKS),
    "conversation": ((), STATELESS),
    "moderation": ((), _LACKS),
    "previous_response_id": ((), STATELESS),
    "prompt": ((), STATELESS),
    "reasoning": (({}, {"effort": "none"}), "The models of this server do not reason."),
    "store": ((False,), STATELESS),
    "truncation": (("disabled",), "This server shortens no input."),
}
# What changes nothing about the answer.
_IDLE = (
    "max_tool_calls",  # of hosted tools
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "user",
)
_LOGPROBS = "message.output_text.logprobs"
_INCLUDED = (_LOGPROBS, "reasoning.encrypted_content")  # no answer here has reasoning, so the second brings nothing
# The request's fields behind the options of an answer, where they are called otherwise.
_PARAMS = {"schema": "text.format", "max_tokens": "max_output_tokens", "logprobs": "include", "messages": "input"}


class _Tool(asking.Function):
    type: Literal["function"]


class _Format(Body):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None

    @property
    def named(self) -> asking.JsonSchema | None:
        """The schema with its name, where the format has one. Raises WireError where it lacks a part."""
        if self.type != "json_schema":
            return None
        given = {"name": self.name, "description": self.description, "schema": self.schema_, "strict": self.strict}
        for name in ("name", "schema"):
            if given[name] is None:
                where = f"text.format.{name}"
                raise bad(f"{where}: is missing.", where, "missing_required_parameter")
        return parse(asking.JsonSchema, given, "text.format")


class _Text(Body):
    format: _Format | None = None
    verbosity: Literal["medium"] | None = None


class _StreamOptions(Body):
    include_obfuscation: bool | None = None


class _Choice(Body):
    type: Literal["function"]
    name: asking.FunctionName


class _Allowed(Body):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[_Choice], Field(min_length=1, max_length=128)]


class _Asked(asking.Settings):
    model: Annotated[str, Field(min_length=1, max_length=512)]
    input: str | Annotated[list[dict[str, Any]], Field(max_length=4096)]
    instructions: str | None = None
    max_output_tokens: asking.Positive | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    include: Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    text: _Text | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_choice: Literal["auto", "none", "required"] | dict[str, Any] | None = None


async def create(request: Request) -> Response:
    """`POST /responses`."""
    only(request.query_params)
    server = server_of(request)
    body = await read_json(request, server.limits)
    for name, (neutral, reason) in _ABSENT.items():
        if name in body and body[name] not in neutral:
            raise bad(f"{name}: {reason}", name, "unsupported_parameter")
    asked = parse(_Asked, {key: value for key, value in body.items() if key not in _ABSENT and key not in _IDLE})
    if not asked.input:
        raise bad("input: is empty.", "input", "invalid_value")
    messages = messages_of(asked.input, asked.instructions)
    tools = _tools(asked)
    options = _options(asked, tools, server.limits)
    ref = await run_in_threadpool(resolve, server, owner_of(request), asked.model)
    question, told = await asking.pose(request, ref, messages, options, stream=bool(asked.stream), params=_PARAMS)
    head = _head(asked, tools, options)
    if not asked.stream:
        answer = (await asking.whole(request, question, told))[0]
        return reply(_answered(head, answer))
    first = await asking.next_told(request, question, told)  # before the answer begins: an error has its own status
    if isinstance(first, WireError):
        raise first
    events = response_events.events(head, first, told, question)
    return StreamingResponse(events, media_type="text/event-stream")


def find(request: Request) -> NoReturn:
    """`GET` and `DELETE /responses/{id}`, and what is below it: nothing is stored."""
    id_ = request.path_params["id"][:200]
    raise WireError(404, f"There is no response {id_}. {STATELESS}", param="response_id", code="not_found")


def _tools(asked: _Asked) -> list[_Tool]:
    for number, one in enumerate(asked.tools or ()):
        if one.get("type", "function") != "function":
            raise bad(
                f"tools[{number}].type: {str(one['type'])[:64]!r} runs on the vendor's servers. This server has "
                "function tools only.",
                f"tools[{number}].type",
                "unsupported_value",
            )
    return [parse(_Tool, one, f"tools[{number}]") for number, one in enumerate(asked.tools or ())]


def _options(asked: _Asked, tools: list[_Tool], limits: Limits) -> dict[str, Any]:
    for number, name in enumerate(asked.include or ()):
        if name not in _INCLUDED:
            known = ", ".join(_INCLUDED)
            raise bad(
                f"include[{number}]: {name[:64]!r} is not there. This server includes {known}.",
                f"include[{number}]",
                "unsupported_value",
            )
    wanted = _LOGPROBS in (asked.include or ())
    if asked.top_logprobs and not wanted:
        raise bad(f"top_logprobs: needs include: [{_LOGPROBS!r}].", "top_logprobs", "invalid_value")
    choice, tools = _choice(asked, tools)
    form = asked.text.format if asked.text else None
    return asking.options_of(
        asked,
        limits,
        most=asked.max_output_tokens,
        tools=asking.tools_of([asking.Function(**one.model_dump(exclude={"type"})) for one in tools]),
        tool_choice=choice,
        schema=asking.schema_of(form.type, form.named) if form else None,
        logprobs=(asked.top_logprobs or 0) if wanted else None,
    )


def _choice(asked: _Asked, tools: list[_Tool]) -> tuple[str | Mapping[str, str] | None, list[_Tool]]:
    """The `tool_choice` option, and the tools that the model sees."""
    choice = asked.tool_choice
    if not isinstance(choice, dict):
        return choice, tools
    if choice.get("type") == "allowed_tools":
        allowed = parse(_Allowed, choice, "tool_choice")
        names = {one.name for one in allowed.tools}
        if absent := sorted(names - {one.name for one in tools}):
            raise bad(f"tool_choice: {absent[0]!r} is not among the tools.", "tool_choice", "invalid_value")
        return allowed.mode, [one for one in tools if one.name in names]
    return {"name": parse(_Choice, choice, "tool_choice").name}, tools


def _head(asked: _Asked, tools: list[_Tool], options: Mapping[str, Any]) -> dict[str, Any]:
    """The response before anything is answered: what was asked for, and what that came to."""
    form = asked.text.format if asked.text else None
    told = form.model_dump(by_alias=True, exclude_none=True) if form else {"type": "text"}
    return {
        "id": f"resp_{secrets.token_hex(16)}",
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "model": asked.model,
        "output": [],
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": options["temperature"],
        "text": {"format": told, "verbosity": "medium"},
        "tool_choice": asked.tool_choice or "auto",
        "tools": [{"parameters": None, "strict": None, **one.model_dump(exclude_none=True)} for one in tools],
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": options["top_p"],
        "truncation": "disabled",
        "usage": None,
        "metadata": asked.metadata or {},
    }


def _answered(head: Mapping[str, Any], answer: Reply) -> dict[str, Any]:
    """The response of an answer that came whole."""
    output = [response_events.message(answer)] if answer.text or not answer.tool_calls else []
    output += [response_events.call(one) for one in asking.calls_of(answer)]
    return response_events.ended(head, answer, output)


ROUTES = [
    Route("/v1/responses", create, methods=["POST"]),
    Route("/v1/responses/{id}", find, methods=["GET", "DELETE"]),
    Route("/v1/responses/{id}/cancel", find, methods=["POST"]),
    Route("/v1/responses/{id}/input_items", find, methods=["GET"]),
]
