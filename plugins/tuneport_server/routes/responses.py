"""`/v1/responses` without stored state: text and tools in and out, complete or streamed."""

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
from tuneport_server.bodies import read_json
from tuneport_server.limits import ResourceLimits
from tuneport_server.routes import answers, response_events
from tuneport_server.routes.models import resolve
from tuneport_server.routes.response_input import STATELESS, messages_of
from tuneport_server.server import owned_of, server_of
from tuneport_server.wire import Body, WireError, bad, check_query, parse, reply

_UNAVAILABLE = "This server does not support it."
# Not supported, and would change the answer: the values without effect, and why others are refused.
_UNSUPPORTED: dict[str, tuple[tuple[Any, ...], str]] = {
    "background": ((False,), STATELESS),
    "context_management": (([],), _UNAVAILABLE),
    "conversation": ((), STATELESS),
    "moderation": ((), _UNAVAILABLE),
    "previous_response_id": ((), STATELESS),
    "prompt": ((), STATELESS),
    "reasoning": (({}, {"effort": "none"}), "The models of this server do not reason."),
    "store": ((False,), STATELESS),
    "truncation": (("disabled",), "This server does not truncate inputs."),
}
# Accepted, without effect on the answer.
_IGNORED = (
    "max_tool_calls",  # of hosted tools
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "user",
)
_LOGPROBS = "message.output_text.logprobs"
_INCLUDED = (_LOGPROBS, "reasoning.encrypted_content")  # answers have no reasoning, so the second has no effect
# The request's fields for options of an answer that have other names.
_PARAMS = {"schema": "text.format", "max_tokens": "max_output_tokens", "logprobs": "include", "messages": "input"}


class _Tool(answers.Function):
    type: Literal["function"]


class _Format(Body):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None

    @property
    def json_schema(self) -> answers.JsonSchema | None:
        """The schema with its name, if the format has one. Raises WireError if name or schema is missing."""
        if self.type != "json_schema":
            return None
        given = {"name": self.name, "description": self.description, "schema": self.schema_, "strict": self.strict}
        for name in ("name", "schema"):
            if given[name] is None:
                where = f"text.format.{name}"
                raise bad(f"{where}: is missing.", where, "missing_required_parameter")
        return parse(answers.JsonSchema, given, "text.format")


class _Text(Body):
    format: _Format | None = None
    verbosity: Literal["medium"] | None = None


class _StreamOptions(Body):
    include_obfuscation: bool | None = None


class _Choice(Body):
    type: Literal["function"]
    name: answers.FunctionName


class _Allowed(Body):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[_Choice], Field(min_length=1, max_length=128)]


class _Creation(answers.CommonOptions):
    model: Annotated[str, Field(min_length=1, max_length=512)]
    input: str | Annotated[list[dict[str, Any]], Field(max_length=4096)]
    instructions: str | None = None
    max_output_tokens: answers.Positive | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    include: Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    text: _Text | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_choice: Literal["auto", "none", "required"] | dict[str, Any] | None = None


async def create(request: Request) -> Response:
    """`POST /responses`."""
    check_query(request.query_params)
    server = server_of(request)
    body = await read_json(request, server.limits)
    for name, (neutral, reason) in _UNSUPPORTED.items():
        if name in body and body[name] not in neutral:
            raise bad(f"{name}: {reason}", name, "unsupported_parameter")
    creation = parse(
        _Creation, {key: value for key, value in body.items() if key not in _UNSUPPORTED and key not in _IGNORED}
    )
    if not creation.input:
        raise bad("input: is empty.", "input", "invalid_value")
    messages = messages_of(creation.input, creation.instructions)
    tools = _tools(creation)
    options = _options(creation, tools, server.limits)
    ref = await run_in_threadpool(resolve, server, owned_of(request), creation.model)
    question, deliveries = await answers.ask(
        request, ref, messages, options, stream=bool(creation.stream), params=_PARAMS
    )
    head = _head(creation, tools, options)
    if not creation.stream:
        answer = (await answers.all_replies(request, question, deliveries))[0]
        return reply(_response(head, answer))
    # Before the response begins, so that an error sets its status.
    first = await answers.next_delivery(request, question, deliveries)
    if isinstance(first, WireError):
        raise first
    events = response_events.events(head, first, deliveries, question)
    return StreamingResponse(events, media_type="text/event-stream")


def refuse(request: Request) -> NoReturn:
    """`GET` and `DELETE /responses/{id}`, and the paths below it: nothing is stored."""
    id_ = request.path_params["id"][:200]
    raise WireError(404, f"There is no response {id_}. {STATELESS}", param="response_id", code="not_found")


def _tools(creation: _Creation) -> list[_Tool]:
    for number, one in enumerate(creation.tools or ()):
        if one.get("type", "function") != "function":
            raise bad(
                f"tools[{number}].type: {str(one['type'])[:64]!r} runs on the vendor's servers. This server has "
                "function tools only.",
                f"tools[{number}].type",
                "unsupported_value",
            )
    return [parse(_Tool, one, f"tools[{number}]") for number, one in enumerate(creation.tools or ())]


def _options(creation: _Creation, tools: list[_Tool], limits: ResourceLimits) -> dict[str, Any]:
    for number, name in enumerate(creation.include or ()):
        if name not in _INCLUDED:
            known = ", ".join(_INCLUDED)
            raise bad(
                f"include[{number}]: {name[:64]!r} is not supported. This server can include {known}.",
                f"include[{number}]",
                "unsupported_value",
            )
    wanted = _LOGPROBS in (creation.include or ())
    if creation.top_logprobs and not wanted:
        raise bad(f"top_logprobs: needs include: [{_LOGPROBS!r}].", "top_logprobs", "invalid_value")
    choice, tools = _choice(creation, tools)
    form = creation.text.format if creation.text else None
    return answers.options_of(
        creation,
        limits,
        most=creation.max_output_tokens,
        tools=answers.tools_of([answers.Function(**one.model_dump(exclude={"type"})) for one in tools]),
        tool_choice=choice,
        schema=answers.schema_of(form.type, form.json_schema) if form else None,
        logprobs=(creation.top_logprobs or 0) if wanted else None,
    )


def _choice(creation: _Creation, tools: list[_Tool]) -> tuple[str | Mapping[str, str] | None, list[_Tool]]:
    """Return the `tool_choice` option, and the tools that the model sees."""
    choice = creation.tool_choice
    if not isinstance(choice, dict):
        return choice, tools
    if choice.get("type") == "allowed_tools":
        allowed = parse(_Allowed, choice, "tool_choice")
        names = {one.name for one in allowed.tools}
        if absent := sorted(names - {one.name for one in tools}):
            raise bad(f"tool_choice: {absent[0]!r} is not among the tools.", "tool_choice", "invalid_value")
        return allowed.mode, [one for one in tools if one.name in names]
    return {"name": parse(_Choice, choice, "tool_choice").name}, tools


def _head(creation: _Creation, tools: list[_Tool], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the response before anything is answered: what was requested, with defaults filled in."""
    form = creation.text.format if creation.text else None
    shown = form.model_dump(by_alias=True, exclude_none=True) if form else {"type": "text"}
    return {
        "id": f"resp_{secrets.token_hex(16)}",
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": creation.instructions,
        "max_output_tokens": creation.max_output_tokens,
        "model": creation.model,
        "output": [],
        "parallel_tool_calls": creation.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": options["temperature"],
        "text": {"format": shown, "verbosity": "medium"},
        "tool_choice": creation.tool_choice or "auto",
        "tools": [{"parameters": None, "strict": None, **one.model_dump(exclude_none=True)} for one in tools],
        "top_logprobs": creation.top_logprobs or 0,
        "top_p": options["top_p"],
        "truncation": "disabled",
        "usage": None,
        "metadata": creation.metadata or {},
    }


def _response(head: Mapping[str, Any], answer: Reply) -> dict[str, Any]:
    """Return the response for a complete answer."""
    output = [response_events.message(answer)] if answer.text or not answer.tool_calls else []
    output += [response_events.call(one) for one in answers.calls_of(answer)]
    return response_events.finish(head, answer, output)


ROUTES = [
    Route("/v1/responses", create, methods=["POST"]),
    Route("/v1/responses/{id}", refuse, methods=["GET", "DELETE"]),
    Route("/v1/responses/{id}/cancel", refuse, methods=["POST"]),
    Route("/v1/responses/{id}/input_items", refuse, methods=["GET"]),
]
