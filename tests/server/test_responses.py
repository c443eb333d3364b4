"""`/v1/responses`: the official client gets text, tools and formats, complete and streamed; stored state is refused."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from serving import Served
from tiny_models import make_tokenizer, write_llama
from tuneport import AnswerPiece, Reply
from tuneport_server.answering.questions import Delivery, Question
from tuneport_server.routes import response_events
from tuneport_server.routes.response_input import messages_of
from tuneport_server.wire import WireError

pytestmark = pytest.mark.timeout(300)
WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
    },
}
CLOCK = {"type": "function", "name": "clock", "parameters": {"type": "object", "properties": {}}}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
# What the wire says, and the client's types leave out.
BEYOND_THE_TYPES = {"store", "name"}


class Ticket(BaseModel):
    label: Literal["card", "transfer"]
    urgent: bool


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """A client of a server with a tiny model that writes tool calls."""
    folder = write_llama(tmp_path_factory.mktemp("bases") / "tiny-llama", make_tokenizer())
    template: Path = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{# calls are written as <tool_call> #}")
    made = Served(tmp_path_factory.mktemp("served") / "home", "--models", f"tiny=torch:{folder}").start()
    with made.client(max_retries=0) as client:
        yield client
    made.end()
    assert "Traceback" not in made.stderr(), made.stderr()[-4000:]


def beyond(value: Any) -> set[str]:
    """Return the fields at any depth that the client's types do not have."""
    if isinstance(value, BaseModel):
        inside = [getattr(value, name) for name in type(value).model_fields]
        return set(value.model_extra or {}).union(*map(beyond, inside))
    if isinstance(value, list):
        return set().union(*map(beyond, value))
    return set()


def streamed(client: openai.OpenAI, **asked: Any) -> list[dict[str, Any]]:
    """Return the events as they are sent, each checked against the client's type and its number."""
    with client.responses.with_streaming_response.create(**asked, stream=True) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    kinds = [line.removeprefix("event: ") for line in lines[::2]]
    events = [json.loads(line.removeprefix("data: ")) for line in lines[1::2]]
    assert [one["type"] for one in events] == kinds
    assert [one["sequence_number"] for one in events] == list(range(len(events)))
    for one in events:
        assert beyond(EVENT.validate_python(one)) <= BEYOND_THE_TYPES
    return events


def test_an_answer_is_a_response_of_the_wire(client: openai.OpenAI) -> None:
    raw = client.responses.with_raw_response.create(
        model="gray", input="Hello", instructions="Be brief.", metadata={"run": "1"}, temperature=0.5, store=False
    )
    whole = json.loads(raw.text)
    assert beyond(Response.model_validate(whole)) <= BEYOND_THE_TYPES
    assert whole["output"][0] | {"id": ""} == {
        "id": "",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Hello!", "annotations": [], "logprobs": []}],
    }
    sent = {key: whole[key] for key in ("status", "store", "instructions", "metadata", "temperature", "error")}
    assert sent == {
        "status": "completed",
        "store": False,
        "instructions": "Be brief.",
        "metadata": {"run": "1"},
        "temperature": 0.5,
        "error": None,
    }
    assert client.responses.create(model="gray", input="Hello").store is False, "nothing is stored when it is not said"


def test_a_stream_has_the_events_of_the_wire_in_its_order(tiny: openai.OpenAI) -> None:
    asked = {"model": "tiny", "input": "My card", "temperature": 0, "max_output_tokens": 8}
    whole = tiny.responses.create(**asked)
    events = streamed(tiny, **asked)
    kinds = [one["type"].removeprefix("response.") for one in events]
    deltas = [one["delta"] for one in events if one["type"].endswith("text.delta")]
    assert len(deltas) > 1
    assert kinds == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *["output_text.delta"] * len(deltas),
        *("output_text.done", "content_part.done", "output_item.done", "incomplete"),
    ]
    assert "".join(deltas) == whole.output_text == events[-4]["text"]
    last = events[-1]["response"]
    assert last["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["status"] == last["output"][0]["status"] == whole.status == "incomplete"
    assert last["usage"] == whole.usage.model_dump(exclude_none=True)
    assert last["usage"]["total_tokens"] == last["usage"]["input_tokens"] + 8
    assert {one.get("item_id", last["output"][0]["id"]) for one in events} == {last["output"][0]["id"]}
    assert events[0]["response"]["id"] == last["id"]


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "name": "weather"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]},
    ],
)
def test_a_tool_is_called_complete_and_streamed_and_its_output_is_answered(tiny: openai.OpenAI, choice: Any) -> None:
    asked: dict[str, Any] = {"model": "tiny", "input": "Hello", "max_output_tokens": 200, "parallel_tool_calls": False}
    asked |= {"tool_choice": choice, "tools": [WEATHER] if choice == "required" else [CLOCK, WEATHER]}
    (call,) = tiny.responses.create(**asked).output
    assert (call.type, call.name, call.status) == ("function_call", "weather", "completed")
    assert json.loads(call.arguments)["city"] in ("Paris", "Rome")
    events = streamed(tiny, **asked)
    parts = [one["delta"] for one in events if one["type"].endswith("arguments.delta")]
    assert [one["type"].removeprefix("response.") for one in events] == [
        *("created", "in_progress", "output_item.added"),
        *["function_call_arguments.delta"] * len(parts),
        *("function_call_arguments.done", "output_item.done", "completed"),
    ]
    assert len(parts) > 1, "the arguments come as they are written"
    assert events[2]["item"]["arguments"] == ""
    assert events[2]["item"]["name"] == "weather"
    assert "".join(parts) == events[-3]["arguments"] == events[-1]["response"]["output"][0]["arguments"]
    items = [{"role": "user", "content": "Hello"}, call.model_dump()]
    items += [{"type": "function_call_output", "call_id": call.call_id, "output": "Rain"}]
    answer = tiny.responses.create(**{**asked, "input": items, "tool_choice": "none"})
    assert [one.type for one in answer.output] == ["message"]


def test_a_format_is_followed(tiny: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "input": "Hello", "max_output_tokens": 200}
    assert isinstance(tiny.responses.parse(**asked, text_format=Ticket).output_parsed, Ticket)
    with tiny.responses.stream(**asked, text_format=Ticket) as stream:
        stream.until_done()
        assert isinstance(stream.get_final_response().output_parsed, Ticket)
    loose = tiny.responses.create(**asked, text={"format": {"type": "json_object"}})
    assert loose.output_text.lstrip().startswith("{")
    assert loose.text.format.type == "json_object"


def test_log_probabilities_are_returned_if_included(tiny: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "input": "Hello", "max_output_tokens": 4, "temperature": 0}
    asked |= {"include": ["message.output_text.logprobs", "reasoning.encrypted_content"], "top_logprobs": 2}
    part = tiny.responses.create(**asked).output[0].content[0]
    assert [len(one.top_logprobs) for one in part.logprobs] == [2] * 4
    assert all(one.bytes and one.logprob <= 0 for one in part.logprobs)
    events = streamed(tiny, **asked)
    done = next(one for one in events if one["type"] == "response.output_text.done")
    deltas = [one for one in events if one["type"] == "response.output_text.delta"]
    assert [one for delta in deltas for one in delta["logprobs"]] == done["logprobs"]
    assert all(delta["logprobs"] for delta in deltas), "each delta has those of its own tokens"
    assert [one["token"] for one in done["logprobs"]] == [one.token for one in part.logprobs]


@pytest.mark.parametrize(
    ("asked", "param", "says"),
    [
        ({"store": True}, "store", "stores no responses"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "stores no responses"),
        ({"conversation": "conv_1"}, "conversation", "stores no responses"),
        ({"background": True}, "background", "stores no responses"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "stores no responses"),
        ({"reasoning": {"effort": "high"}}, "reasoning", "do not reason"),
        ({"truncation": "auto"}, "truncation", "does not truncate"),
        ({"tools": [CLOCK, {"type": "web_search"}]}, "tools[1].type", "function tools only"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type", "function tools only"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "is missing"),
        ({"tools": [CLOCK], "tool_choice": {"type": "web_search"}}, "tool_choice.type", "should be 'function'"),
        (
            {
                "tools": [CLOCK],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "x"}]},
            },
            "tool_choice",
            "not among the tools",
        ),
        ({"include": ["file_search_call.results"]}, "include[0]", "is not supported"),
        ({"top_logprobs": 2}, "top_logprobs", "needs include"),
        ({"text": {"format": {"type": "json_schema", "name": "t"}}}, "text.format.schema", "is missing"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name", "is missing"),
        ({"text": {"verbosity": "high"}}, "text.verbosity", "should be 'medium'"),
        ({"extra_body": {"logprobs": True}}, "logprobs", "Unrecognized"),
        ({"input": []}, "input", "is empty"),
        ({"input": ""}, "input", "is empty"),
        ({"input": [{"id": "msg_1", "type": "item_reference"}]}, "input[0]", "stored item"),
        ({"input": [{"id": "msg_1"}]}, "input[0]", "stored item"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type", "is not supported"),
        ({"input": [{"content": "Hello"}]}, "input[0].type", "is missing"),
        ({"input": [{"role": "tool", "content": "Hello"}]}, "input[0].role", "should be 'user'"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]}]},
            "input[0].content[0].type",
            "is not supported",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": 1}]}]},
            "input[0].content[0].text",
            "should be a string",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "call_1", "output": "x"}]},
            "input[0].call_id",
            "no function_call before it",
        ),
    ],
)
def test_an_unsupported_field_is_a_400_that_names_it(client: openai.OpenAI, asked, param, says) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=says) as caught:
            client.responses.create(**{"model": "gray", "input": "Hello", **asked}, stream=stream)
        assert caught.value.param == param


def test_an_option_that_a_model_lacks_is_refused_by_its_name_in_the_request(
    client: openai.OpenAI, tiny: openai.OpenAI
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="gray", input="Hello", text={"format": {"type": "json_object"}})
    assert caught.value.param == "text.format"
    with pytest.raises(openai.BadRequestError, match="tokens") as caught:
        tiny.responses.create(model="tiny", input="never " * 3000)
    assert caught.value.param == "input"


def test_nothing_is_stored_and_every_lookup_reports_it(client: openai.OpenAI) -> None:
    made = client.responses.create(model="gray", input="Hello", extra_body={"truncation": None, "reasoning": None})
    for look in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError, match="stores no responses"):
            look(made.id)
    with pytest.raises(openai.NotFoundError, match="stores no responses"):
        list(client.responses.input_items.list(made.id))


def test_responses_need_a_token_and_a_known_model(shared: Served, client: openai.OpenAI) -> None:
    with shared.client("tp-wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            stranger.responses.create(model="gray", input="Hello")
        with pytest.raises(openai.AuthenticationError):
            stranger.responses.retrieve("resp_1")
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="gpt-6", input="Hello")


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e308, "", "x", "a" * 300, [], {}, [[]], [{}], [1]),
    *({"type": []}, {"type": {}}, {"type": "function"}, {"type": "function", "name": []}, {"format": 1}),
    *({"type": "message"}, {"type": "message", "role": []}, [{"role": "user", "content": [1]}]),
    *([{"role": "user", "content": [{"type": {}}]}], [{"type": "function_call", "call_id": 1}]),
    {"type": "allowed_tools", "mode": "auto", "tools": []},
    {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "x"}]},
    {"format": {"type": "json_schema", "name": "x", "schema": {"type": "array", "items": {"$ref": "#"}}}},
    [
        {"type": "function_call", "call_id": "a", "name": "b", "arguments": "{"},
        {"type": "function_call_output", "call_id": "a", "output": []},
    ],
)
FIELDS = (
    *("input", "instructions", "max_output_tokens", "metadata", "include", "stream_options", "text", "tools"),
    *("tool_choice", "temperature", "top_p", "store", "top_logprobs", "parallel_tool_calls", "reasoning"),
    *("background", "conversation", "previous_response_id", "truncation", "prompt", "user", "nonsense"),
)


@pytest.mark.parametrize("count", [100, pytest.param(5000, marks=pytest.mark.soak)])
def test_no_body_makes_the_server_fail(tiny: openai.OpenAI, count: int) -> None:
    draw = random.Random(count)
    answered = 0
    for _ in range(count):
        body: dict[str, Any] = {"model": "tiny", "input": "x", "max_output_tokens": 2}
        for field in draw.sample(FIELDS, draw.randint(1, 3)):
            value = draw.choice(ODD)
            body[field] = [value] if draw.random() < 0.3 else value
        try:
            answered += tiny.post("/responses", body=body, cast_to=Response).object == "response"
        except openai.APIStatusError as error:
            assert error.status_code == 400, body
            assert error.message, body
    assert 0 < answered < count


def test_items_become_the_messages_of_a_conversation() -> None:
    call = {"type": "function_call", "name": "weather", "arguments": "{}", "status": "completed", "id": "fc_1"}
    parts = [{"type": "output_text", "text": "Let me see.", "annotations": [], "parsed": None}]
    items = [
        {
            "role": "developer",
            "content": [{"type": "input_text", "text": "Be "}, {"type": "input_text", "text": "kind."}],
        },
        {"type": "message", "role": "user", "content": "Is it raining?"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": parts},
        {**call, "call_id": "call_1", "parsed_arguments": {}},
        {**call, "call_id": "call_2"},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "Rain"}]},
        {"type": "function_call_output", "call_id": "call_2", "output": "Sun"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]
    function = {"name": "weather", "arguments": "{}"}
    calls = [{"id": f"call_{number}", "type": "function", "function": function} for number in (1, 2)]
    assert messages_of(items, "Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "Is it raining?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain"},
        {"role": "tool", "tool_call_id": "call_2", "content": "Sun"},
        {"role": "assistant", "content": "No."},
    ]


@pytest.mark.parametrize(("status", "code"), [(500, "server_error"), (400, "invalid_prompt")])
def test_an_answer_that_fails_midway_ends_its_stream_with_the_reason(status: int, code: str) -> None:
    async def read_until_gone() -> tuple[list[dict[str, Any]], bool]:
        items: asyncio.Queue[Delivery] = asyncio.Queue()
        items.put_nowait(WireError(status, "The model could not answer."))
        question = Question(
            messages=[], options={}, count=1, stream=True, deliver=items.put_nowait, gone=threading.Event()
        )
        head = {**json.loads(RESPONSE), "status": "in_progress"}
        sent = [one async for one in response_events.events(head, (0, AnswerPiece(text="My")), items, question)]
        return [json.loads(one.split(b"data: ")[1]) for one in sent], question.gone.is_set()

    events, gone = asyncio.run(read_until_gone())
    assert gone
    assert [one["type"] for one in events[-3:]] == ["response.output_text.delta", "error", "response.failed"]
    assert events[-2]["message"] == events[-1]["response"]["error"]["message"] == "The model could not answer."
    assert events[-2]["code"] == events[-1]["response"]["error"]["code"] == code
    assert EVENT.validate_python(events[-1]).response.status == "failed"


RESPONSE = """{"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": [],
"parallel_tool_calls": true, "tool_choice": "auto", "tools": []}"""


def test_an_empty_reply_is_still_a_message() -> None:
    assert response_events.message(Reply(text=""))["content"][0]["text"] == ""
