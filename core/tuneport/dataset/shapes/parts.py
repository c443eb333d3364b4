"""Converts messages whose content is a list of parts, as other vendors write them, to turns in the usual form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.shapes.tools import without_nulls

Part = dict[str, Any]
KNOWN = "text, image_url, tool_use, tool_result and thinking"
_TEXTS = ("input_text", "output_text")
_CONVERTED = ("thinking", "tool_use", "tool_result", "image")
_TOOL_ROLES = frozenset({"tool", "function", "observation", "function_response", "tool_response", "ipython"})
_ORDER = ("thinking", "text", "tool_use")


def split_parts(message: Mapping[str, Any], at: str, report: RowReport) -> list[Mapping[str, Any]]:
    """The turns of a message: its tool calls, tool answers and thoughts take the usual form. A message without such
    parts stays as it is.

    Supported are Anthropic, Bedrock, Gemini, Mistral, OpenAI's Responses and Vercel's AI SDK.
    """
    content = message.get("content")
    if content is None and isinstance(message.get("parts"), list):
        content = message["parts"]
        message = {key: value for key, value in message.items() if key != "parts"}
    elif content is None and isinstance(refused := message.get("refusal"), str) and refused:
        content = [{"type": "refusal", "refusal": refused}]
    role = message.get("role")
    if isinstance(role, str) and role in _TOOL_ROLES and _is_data(content):
        return [message]
    if isinstance(content, Mapping) and content:
        content = [content]
    if isinstance(content, list) and any(isinstance(part, str) for part in content):
        content = [{"type": "input_text", "text": part} if isinstance(part, str) else part for part in content]
    if not (isinstance(content, list) and content and all(isinstance(part, dict) for part in content)):
        return [message]
    bare: list[Part] = [without_nulls(part) for part in content]
    parts = [_normalize_part(part) for part in bare]
    if (
        parts == bare
        and content is message.get("content")
        and not any(part.get("type") in _CONVERTED for part in parts)
    ):
        return [message]
    report.add("read-as-turn", f"Parts in another vendor's form are converted: {_list_kinds(parts)}.", f"{at}/content")
    rest = {key: value for key, value in message.items() if key not in ("content", "refusal")}
    if message.get("role") == "assistant":
        return [_join_answer(rest, parts, at, report)]
    return _split_prompt(rest, parts, at, report)


def _is_data(content: Any) -> bool:
    """Whether a tool's answer is plain JSON, not parts: it has an object without a type and with more than a text."""
    parts = content if isinstance(content, list) else [content]
    return any(
        isinstance(part, Mapping) and "type" not in part and "type" not in _normalize_part(without_nulls(part))
        for part in parts
    ) or any(isinstance(part, Mapping) and "type" not in part and part.keys() > {"text"} for part in parts)


def text_of_parts(value: Any) -> str | None:
    """The text of a list of text parts, also under the key `parts` of an object; None for anything else."""
    if isinstance(value, Mapping) and isinstance(value.get("parts"), list):
        value = value["parts"]
    value = [value] if isinstance(value, Mapping) else value
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        return None
    texts = [
        part.get("text") if _is_text(part) else None for part in (_normalize_part(without_nulls(one)) for one in value)
    ]
    found = [text for text in texts if isinstance(text, str)]
    return "\n\n".join(found) if found and len(found) == len(texts) else None


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text"


def _list_kinds(parts: list[Part]) -> str:
    kinds = dict.fromkeys(str(part.get("type"))[:40] for part in parts)
    return ", ".join(kinds)


def _normalize_part(part: Part) -> Part:
    """A part in Anthropic's form; texts and images in OpenAI's."""
    kind = part.get("type")
    if kind is None:
        return _normalize_keyed_part(part)
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind in _TEXTS:
        return {"type": "text", "text": part.get("text")}
    if kind == "refusal":
        return {"type": "text", "text": part.get("refusal")}
    if kind == "thinking":
        thought = part.get("thinking")
        return {"type": "thinking", "thinking": text_of_parts(thought) if isinstance(thought, list) else thought}
    if kind == "reasoning":
        return {"type": "thinking", "thinking": part.get("text")}
    if kind == "tool-call":
        given = part.get("input", part.get("args"))
        return _tool_use(part.get("toolCallId"), part.get("toolName"), given)
    if kind == "tool-result":
        output = part.get("output", part.get("result"))
        if isinstance(output, Mapping) and output.keys() == {"type", "value"}:
            output = output["value"]
        return _tool_result(part.get("toolCallId"), part.get("toolName"), output)
    if kind in ("image", "image_url"):
        return _image(part)
    return part


def _normalize_keyed_part(part: Part) -> Part:
    """A part whose key is its type, as in Bedrock and Gemini."""
    if isinstance(part.get("text"), str):
        return {"type": "thinking" if part.get("thought") is True else "text"} | (
            {"thinking": part["text"]} if part.get("thought") is True else {"text": part["text"]}
        )
    key, value = next(((key, one) for key, one in part.items() if isinstance(one, Mapping)), ("", {}))
    if key == "toolUse":
        return _tool_use(value.get("toolUseId"), value.get("name"), value.get("input"))
    if key == "toolResult":
        return _tool_result(value.get("toolUseId"), None, value.get("content"))
    if key == "reasoningContent" and isinstance(value.get("reasoningText"), Mapping):
        return {"type": "thinking", "thinking": value["reasoningText"].get("text")}
    if key in ("functionCall", "function_call"):
        return _tool_use(value.get("id"), value.get("name"), value.get("args", {}))
    if key in ("functionResponse", "function_response"):
        return _tool_result(value.get("id"), value.get("name"), value.get("response"))
    return part


def _tool_use(name: Any, function: Any, given: Any) -> Part:
    return {"type": "tool_use", "id": name, "name": function, "input": given}


def _tool_result(call: Any, function: Any, content: Any) -> Part:
    return {"type": "tool_result", "tool_use_id": call, "name": function, "content": content}


def _image(part: Part) -> Part:
    source = part.get("source")
    url = part.get("image_url")
    if isinstance(url, str):
        return {"type": "image_url", "image_url": {"url": url}}
    if isinstance(source, Mapping) and source.get("type") == "url":
        return {"type": "image_url", "image_url": {"url": source.get("url")}}
    if isinstance(source, Mapping) and source.get("type") == "base64":
        return {
            "type": "image_url",
            "image_url": {"url": f"data:{source.get('media_type')};base64,{source.get('data')}"},
        }
    return part


def _join_answer(rest: Mapping[str, Any], parts: list[Part], at: str, report: RowReport) -> Mapping[str, Any]:
    """The assistant's turn: thoughts, then text, then calls. Another order is an error, since no template writes it."""
    ranks = [_ORDER.index(kind) if (kind := part.get("type")) in _ORDER else 1 for part in parts]
    if ranks != sorted(ranks):
        late = next(place for place, rank in enumerate(ranks) if rank < max(ranks[: place + 1]))
        report.add(
            "bad-part",
            f"A part of type {parts[late].get('type')!r:.40} follows text or calls of the same turn.",
            f"{at}/content/{late}",
            "Write thoughts first, then the text, then the calls. After a tool's answer, start a new turn.",
        )
    turn = dict(rest)
    thoughts = [part.get("thinking") for part in parts if part.get("type") == "thinking"]
    if thoughts:
        if not all(isinstance(thought, str) for thought in thoughts):
            report.add("bad-reasoning", "A thinking part has no text.", f"{at}/content")
        turn["reasoning_content"] = "\n\n".join(thought for thought in thoughts if isinstance(thought, str))
    calls = [part for part in parts if part.get("type") == "tool_use"]
    if calls:
        turn["tool_calls"] = [
            {
                "type": "function",
                **({"id": call["id"]} if call.get("id") else {}),
                "function": {"name": call.get("name"), "arguments": _to_json(call.get("input") or {})},
            }
            for call in calls
        ]
    content = [part for part in parts if part.get("type") not in ("thinking", "tool_use")]
    return {**turn, "content": _simplify(content)}


def _split_prompt(rest: Mapping[str, Any], parts: list[Part], at: str, report: RowReport) -> list[Mapping[str, Any]]:
    """The turns of the user and of tools, in the order of the parts."""
    turns: list[Mapping[str, Any]] = []
    held: list[Part] = []
    role = "user" if rest.get("role") == "tool" else rest.get("role")
    for place, part in enumerate(parts):
        if part.get("type") in ("tool_use", "thinking"):
            report.add(
                "bad-part",
                f"A part of type {part['type']!r} is on a turn of {rest.get('role')!r:.40}.",
                f"{at}/content/{place}",
                "Move it to the assistant's turn.",
            )
        if part.get("type") != "tool_result":
            held.append(part)
            continue
        if held:
            turns.append({**rest, "role": role, "content": _simplify(held)})
            held = []
        turns.append(_tool_turn(part))
    if held:
        turns.append({**rest, "role": role if turns else rest.get("role"), "content": _simplify(held)})
    return turns


def _tool_turn(part: Part) -> Mapping[str, Any]:
    turn = {"role": "tool", "content": _tool_output(part.get("content"))}
    if part.get("tool_use_id"):
        turn["tool_call_id"] = part["tool_use_id"]
    if part.get("name"):
        turn["name"] = part["name"]
    return turn


def _tool_output(content: Any) -> Any:
    """A tool's answer as a text, or as parts where it has more than one text."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list) and content and all(isinstance(part, dict) for part in content):
        parts = [
            {"type": "text", "text": _to_json(part["json"])} if part.keys() == {"json"} else _normalize_part(part)
            for part in content
        ]
        if all("type" in part for part in parts):
            return _simplify(parts)
    return _to_json(content)


def _simplify(parts: list[Part]) -> Any:
    if not parts:
        return None
    return parts[0]["text"] if len(parts) == 1 and _is_text(parts[0]) else parts


def _to_json(value: Any) -> Any:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
