"""Tools and tool calls, as other libraries and vendors write them, to the form that models expect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tuneport.dataset.findings.row_report import RowReport

CALL_ROLES = frozenset({"function_call", "tool_call"})
_ANSWER_ROLES = frozenset({"function", "observation", "function_response", "tool_response"})
_NOT_JSON = object()


def to_wire_form(message: Mapping[str, Any], at: str, report: RowReport) -> Mapping[str, Any]:
    """A message with its tool call or tool answer in OpenAI's current form; any other message as it is."""
    role = message.get("role")
    if isinstance(role, str) and role in CALL_ROLES:
        calls = message.get("tool_calls") or message.get("content")
        report.add("read-as-tool-call", f"A {role} turn is read as tool calls of the assistant.", at)
        rest = {key: value for key, value in message.items() if key not in ("role", "content", "tool_calls")}
        return {**rest, "role": "assistant", "tool_calls": decode_text(calls)}
    if isinstance(role, str) and role in _ANSWER_ROLES:
        report.add("read-as-tool-call", f"A {role} turn is read as a tool's answer.", at)
        message = {**message, "role": "tool"}
    elif message.get("function_call") is not None:
        report.add("read-as-tool-call", "function_call, the old form, is read as tool_calls.", f"{at}/function_call")
        rest = {key: value for key, value in message.items() if key != "function_call"}
        return {**rest, "tool_calls": decode_text(message["function_call"])}
    if message.get("role") == "tool" and _is_data(message.get("content")):
        report.add("read-as-text", "The tool's answer is read as JSON text.", f"{at}/content")
        return {**message, "content": json.dumps(message["content"], ensure_ascii=False)}
    return message


def _is_data(content: Any) -> bool:
    """Whether content is a JSON value but neither a text nor a list of parts."""
    if isinstance(content, list):
        return not (content and all(isinstance(part, dict) and "type" in part for part in content))
    return content is not None and not isinstance(content, str)


def read_calls(value: Any, at: str, report: RowReport) -> list[dict[str, Any]] | None:
    """The calls of one turn, from a list of calls, one call, or a JSON text of either. Arguments become JSON text."""
    value = decode_text(value)
    if value is None or value == []:
        return None
    conversions: dict[str, None] = {}
    if isinstance(value, dict):
        conversions["one call becomes a list"] = None
        value = [value]
    if not isinstance(value, list):
        report.add("bad-tool-call", "tool_calls is neither a list of calls nor one call.", at)
        return None
    calls = [_read_call(call, f"{at}/{index}", report, conversions) for index, call in enumerate(value)]
    if conversions:
        report.add("read-as-tool-call", f"Tool calls are converted: {', '.join(conversions)}.", at)
    return calls


def _read_call(value: Any, at: str, report: RowReport, conversions: dict[str, None]) -> dict[str, Any]:
    call = decode_text(value)
    if call is value:
        call = remove_nulls(call, at, report)
    function = call.get("function") if isinstance(call, dict) else None
    if isinstance(call, dict) and function is None and call.get("name"):
        conversions["a call without a function object"] = None
        arguments = next((call[key] for key in ("arguments", "parameters", "input", "args") if key in call), None)
        name = call.get("id") or call.get("call_id")
        function = {"name": call["name"], "arguments": arguments}
        call = {"type": "function", "function": function} | ({"id": name} if name else {})
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        report.add("bad-tool-call", "The call has no function name.", at)
        return {}
    arguments = _read_arguments(function.get("arguments"), f"{at}/function/arguments", report, conversions)
    return {**call, "type": call.get("type", "function"), "function": {**function, "arguments": arguments}}


def _read_arguments(value: Any, at: str, report: RowReport, conversions: dict[str, None]) -> str:
    """The arguments as the JSON text of an object."""
    if value is None or value == "":
        conversions["missing arguments become an empty object"] = None
        return "{}"
    if isinstance(value, dict):
        conversions["arguments that are an object become JSON text"] = None
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str) or not isinstance(_parse(value), dict):
        report.add(
            "tool-arguments-not-json", "The arguments are neither a JSON object nor a text that contains one.", at
        )
        return ""
    return value


def read_tools(value: Any, pointer: str, report: RowReport, *, filled: bool = True) -> tuple[dict[str, Any], ...]:
    """A row's tools, each as `{"type": "function", "function": {…}}`. Bare and flat functions are wrapped.

    `filled`: a table may have added nulls to the objects. It cannot add them to a JSON text.
    """
    filled = filled and not isinstance(value, str)
    value = decode_text(value)
    if value is None:
        return ()
    if isinstance(value, dict) and isinstance(value.get("tools"), list):  # Bedrock's toolConfig
        value = value["tools"]
    if isinstance(value, dict):
        report.add("read-as-tool", "One tool is read as a list.", pointer)
        value = [value]
    if not isinstance(value, list):
        report.add("bad-tool", "tools is not a list.", pointer)
        return ()
    tools = [
        _read_tool(tool, f"{pointer}/{index}", report, filled=filled)
        for index, one in enumerate(value)
        for tool in _split_declarations(one, f"{pointer}/{index}", report)
    ]
    return tuple(tools) if not report.failed else ()


def _split_declarations(value: Any, at: str, report: RowReport) -> list[Any]:
    """The tools that one entry declares: Gemini's has several, Bedrock's wraps each in an object."""
    if not isinstance(value, dict):
        return [value]
    several = value.get("functionDeclarations", value.get("function_declarations"))
    spec = value.get("toolSpec")
    if isinstance(several, list):
        report.add("read-as-tool", "Gemini's function declarations are read as tools.", at)
        return [_lower_types(one) for one in several]
    if isinstance(spec, dict):
        schema = spec.get("inputSchema")
        if isinstance(schema, dict) and isinstance(schema.get("json"), dict):
            spec = {**spec, "inputSchema": schema["json"]}
        return [spec]
    return [value]


def _lower_types(value: Any) -> Any:
    """A schema with JSON Schema's types, which Gemini writes in upper case."""
    if isinstance(value, dict):
        return {
            key: one.lower() if key == "type" and isinstance(one, str) and one.isupper() else _lower_types(one)
            for key, one in value.items()
        }
    return [_lower_types(one) for one in value] if isinstance(value, list) else value


def _read_tool(value: Any, at: str, report: RowReport, *, filled: bool) -> dict[str, Any]:
    tool = decode_text(value)
    if filled and tool is value:
        tool = remove_nulls(tool, at, report)
    if isinstance(tool, dict) and "function" not in tool and "name" in tool:
        report.add("read-as-tool", "The tool is a bare function. It is wrapped.", at)
        tool = {"type": "function", "function": {key: one for key, one in tool.items() if key != "type"}}
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        report.add("bad-tool", "The tool has no function name.", at)
        return {}
    function = _rename_parameters(function, f"{at}/function", report)
    if not isinstance(function.get("parameters"), dict):
        report.add("tool-without-schema", f"{function['name']} has no parameters.", f"{at}/function/parameters")
    return {"type": "function", **tool, "function": function}


def _rename_parameters(function: dict[str, Any], at: str, report: RowReport) -> dict[str, Any]:
    """The function with its schema as an object under `parameters`."""
    key = next((key for key in ("parameters", "input_schema", "inputSchema") if key in function), "parameters")
    schema = decode_text(function.get(key))
    if key == "parameters" and schema is function.get(key):
        return function
    report.add("read-as-tool", f"{key} is read as the function's parameters.", f"{at}/{key}")
    return {name: one for name, one in function.items() if name != key} | {"parameters": schema}


def remove_nulls(value: Any, at: str, report: RowReport) -> Any:
    """A value without the nulls that tables add where an object lacks a key of other rows' objects."""
    clean = without_nulls(value)
    if clean != value:
        report.add("null-left-out", "Keys with the value null are left out.", at)
    return clean


def without_nulls(value: Any) -> Any:
    """A JSON value without keys whose value is null; nulls in lists stay."""
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def decode_text(value: Any) -> Any:
    """The object or list of a JSON text; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        parsed = _parse(value)
        return value if parsed is _NOT_JSON else parsed
    return value


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NOT_JSON


def new_call_id(names: Sequence[str]) -> str:
    """A new call id that is not among `names`: nine letters and digits, which every template accepts."""
    number = len(names) + 1
    while (name := f"call{number:05d}") in names:
        number += 1
    return name
