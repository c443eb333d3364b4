"""Read the items of a response's `input` as messages for a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from tuneport_server.wire import Body, WireError, bad, parse

_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "summary_text": "text", "refusal": "refusal"}
STATELESS = "This server stores no responses and no items. Send the complete conversation as input, with store: false."


class _Item(Body):
    """An item. One from an earlier output has more fields, such as `id`, `status` or `parsed_arguments`; ignored."""

    model_config = ConfigDict(extra="ignore")


class _Message(_Item):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[dict[str, Any]]


class _Call(_Item):
    call_id: Annotated[str, Field(min_length=1, max_length=256)]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    arguments: str


class _Output(_Item):
    call_id: Annotated[str, Field(min_length=1, max_length=256)]
    output: str | list[dict[str, Any]]


def messages_of(given: str | Sequence[Mapping[str, Any]], instructions: str | None) -> list[dict[str, Any]]:
    """Return the messages of an `input`, with `instructions` as a system message first. Calls after an assistant's text
    are part of its message. Reasoning items are left out. Raises WireError.
    """
    messages: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    called: set[str] = set()
    for number, item in enumerate(given):
        where = f"input[{number}]"
        kind = _kind(item, where)
        if kind == "message":
            message = parse(_Message, item, where)
            messages.append({"role": message.role, "content": _text(message.content, f"{where}.content")})
        elif kind == "function_call":
            call = parse(_Call, item, where)
            called.add(call.call_id)
            _add_call(messages, call)
        elif kind == "function_call_output":
            output = parse(_Output, item, where)
            if output.call_id not in called:
                raise bad(
                    f"{where}.call_id: no function_call before it has this call_id. {STATELESS}", f"{where}.call_id"
                )
            text = _text(output.output, f"{where}.output")
            messages.append({"role": "tool", "tool_call_id": output.call_id, "content": text})
    return messages


def _kind(item: Mapping[str, Any], where: str) -> str:
    """Return the type of an item. Only a message, or a reference, which has only an id, may omit it."""
    kind = item.get("type", "message" if "role" in item else "item_reference" if "id" in item else None)
    if kind in ("message", "function_call", "function_call_output", "reasoning"):
        return str(kind)
    if kind == "item_reference":
        raise bad(f"{where}: refers to a stored item. {STATELESS}", where, "unsupported_value")
    if kind is None:
        raise bad(f"{where}.type: is missing.", f"{where}.type", "missing_required_parameter")
    raise _unsupported(f"{where}.type", kind, "messages, function_call, function_call_output and reasoning items")


def _text(content: str | Sequence[Mapping[str, Any]], where: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for number, part in enumerate(content):
        kind = part.get("type")
        name = _TEXTS.get(kind) if isinstance(kind, str) else None
        if name is None:
            raise _unsupported(f"{where}[{number}].type", kind, "text: input_text, output_text and refusal parts")
        if not isinstance(part.get(name), str):
            raise bad(f"{where}[{number}].{name}: should be a string.", f"{where}[{number}].{name}", "invalid_value")
        texts.append(part[name])
    return "".join(texts)


def _unsupported(where: str, kind: object, supported: str) -> WireError:
    return bad(
        f"{where}: {str(kind)[:64]!r} is not supported. This server supports {supported}.", where, "unsupported_value"
    )


def _add_call(messages: list[dict[str, Any]], call: _Call) -> None:
    function = {"name": call.name, "arguments": call.arguments}
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant"})
    messages[-1].setdefault("tool_calls", []).append({"id": call.call_id, "type": "function", "function": function})
