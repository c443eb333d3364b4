"""Converts lists of messages, as other tools write them: every key is used or reported."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tuneport.dataset.example import ROLES, Message
from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.strict_json import escape
from tuneport.dataset.shapes.context import history_turns
from tuneport.dataset.shapes.parts import KNOWN, split_parts
from tuneport.dataset.shapes.tools import CALL_ROLES, read_calls, remove_nulls, to_wire_form

_KEYS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "weight"})
REASONING = ("reasoning_content", "reasoning", "thinking")
"""The keys of the assistant's reasoning in the data of other tools."""
_OTHER_REASONING = frozenset({"reasoning_details", "thinking_blocks", "thoughts", "reasoning_text", "thought"})
_TRAINED = ("train", "training", "trainable", "loss")
"""Other tools' keys for whether a turn is trained on, like our weight."""
_MASKS = ("mask", "masked", "loss_mask", "ignore", "train_detail", "training_detail")
_NEVER_TRAINED = frozenset({"user", "human", "system", "developer", "tool", "observation"})
_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "system": "system",
    "developer": "developer",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "function": "tool",
}
_TURN_KEYS = frozenset({"role", "content", "from", "value"})
_OTHER_ROLES: dict[str, str] = {
    **dict(zip(ROLES, ROLES, strict=True)),
    **dict.fromkeys(("gpt", "chatgpt", "model", "bot", "chatbot", "ai"), "assistant"),
    "human": "user",
    "ipython": "tool",
}
"""Other names of roles, in lower case."""
Content = str | list[dict[str, Any]] | None
_THINK_BLOCK = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
_PARTS = {"text": "text", "image_url": "image_url"}


def read_messages(value: Any, pointer: str, report: RowReport) -> tuple[Message, ...]:
    """The messages of a list such as OpenAI's; errors go into the report."""
    value = _transpose(value)
    if not isinstance(value, list) or not value:
        report.add(
            "no-messages", "There are no messages." if value == [] else "This is not a list of messages.", pointer
        )
        return ()
    return _read_turns(value, pointer, report, _read_message)


def _read_turns(
    value: list[Any], pointer: str, report: RowReport, read: Callable[[Any, str, RowReport], Message]
) -> tuple[Message, ...]:
    """The turns of a list; one item may become several turns."""
    found: list[Message] = []
    origins: list[int] = []
    for index, one in enumerate(value):
        at = f"{pointer}/{index}"
        turns = split_parts(_rename_role(one, at, report), at, report) if _has_other_form(one) else [one]
        found += [read(turn, at, report) for turn in turns]
        origins += [index] * len(turns)
    if len(found) != len(value):
        report.origins = {**report.origins, pointer: origins}
    return tuple(found)


def read_one(value: dict[str, Any], pointer: str, report: RowReport) -> tuple[Message, ...]:
    """The messages of one message or ShareGPT turn."""
    return _read_turns([value], pointer, report, _read_sharegpt_turn)


def _transpose(value: Any) -> Any:
    """Turns written as one list per key, as in old Hugging Face datasets, to a list of turns."""
    if not (isinstance(value, dict) and value and all(isinstance(one, list) for one in value.values())):
        return value
    if len({len(one) for one in value.values()}) > 1 or not value.keys() & _TURN_KEYS:
        return value
    return [dict(zip(value, turn, strict=True)) for turn in zip(*value.values(), strict=True)]


def _has_other_form(value: Any) -> bool:
    """Whether a message has another form than the usual one."""
    if not isinstance(value, dict) or "from" in value:
        return False
    return type(value.get("content")) is not str or value.get("role") not in ROLES


def _rename_role(message: dict[str, Any], at: str, report: RowReport) -> dict[str, Any]:
    """The message with the usual name of its role, where it has another vendor's, or another case."""
    role = message.get("role")
    kind = message.get("type")
    if role is None and isinstance(kind, str) and kind.lower() in _OTHER_ROLES:  # LangChain's
        inner = message["data"] if isinstance(message.get("data"), dict) else message
        role = kind
        message = {"role": role, **{key: one for key, one in inner.items() if key not in ("type", "data", "role")}}
    if not isinstance(role, str) or role in ROLES or role in CALL_ROLES:
        return message
    ours = _OTHER_ROLES.get(role.strip().lower())
    if ours is None:
        return message
    report.add("read-as-turn", f"The role {role!r:.40} is read as {ours}.", f"{at}/role")
    return {**message, "role": ours}


def _read_message(value: Any, at: str, report: RowReport) -> Message:
    if not isinstance(value, dict):
        report.add("bad-message", "A message is not an object.", at)
        return Message(role="")
    role = value.get("role")
    if len(value) == 2 and role in ROLES and type(value.get("content")) is str:  # most have this form
        return Message(role=role, content=value["content"])
    value = _read_train_key(to_wire_form(value, at, report), at, report)
    role = value.get("role")
    thought = _read_reasoning(value, role, at, report)
    for key in value.keys() - _KEYS - {*REASONING}:
        if value[key] is not None:
            _report_unknown_key(key, f"{at}/{escape(key)}", report, thought)
    _check_role(role, f"{at}/role", report)
    content = _read_content(value.get("content"), f"{at}/content", report)
    return Message(
        role=str(role),
        content=drop_repeated_thought(content, thought, f"{at}/content", report),
        name=_optional_text(value.get("name"), f"{at}/name", report),
        tool_calls=read_calls(value.get("tool_calls"), f"{at}/tool_calls", report),
        tool_call_id=_optional_text(value.get("tool_call_id"), f"{at}/tool_call_id", report),
        weight=_weight(value.get("weight"), role, f"{at}/weight", report),
        reasoning_content=thought,
    )


def drop_repeated_thought(content: Content, thought: str | None, at: str, report: RowReport) -> Content:
    """The content without a think block at its start that repeats `thought`, so that it is trained on only once."""
    block = _THINK_BLOCK.match(content) if thought and isinstance(content, str) else None
    if block is None or thought is None:
        return content
    if block[1].strip() not in ("", thought.strip()):
        report.add("bad-reasoning", "The think block in the text differs from the message's reasoning key.", at)
    return block.string[block.end() :]


def _read_train_key(value: Mapping[str, Any], at: str, report: RowReport) -> Mapping[str, Any]:
    """The message with a weight instead of another tool's key for whether the turn is trained on."""
    for key in _MASKS:
        if value.get(key) not in (None, [], ""):
            remedy = "Write weight 0 on the turns that the model should not learn, and remove the key."
            message = f"{key} may say which turns are trained on, but it is not supported."
            report.add("bad-weight", message, f"{at}/{key}", remedy)
    given = next((key for key in _TRAINED if value.get(key) is not None), None)
    if given is None:
        return value
    rest = {key: one for key, one in value.items() if key != given}
    if value[given] not in (0, 1):
        report.add("bad-weight", f"{given} is {value[given]!r:.40}.", f"{at}/{given}")
        return rest
    weight = int(value[given])
    if value.get("weight", weight) != weight:
        report.add("bad-weight", f"{given} and weight contradict each other.", f"{at}/{given}")
        return rest
    report.add("read-as-turn", f"{given} is read as the weight {weight}.", f"{at}/{given}")
    role = value.get("role", value.get("from"))
    on_others = isinstance(role, str) and role in _NEVER_TRAINED
    return rest if on_others else rest | {"weight": weight}


def _read_reasoning(value: Mapping[str, Any], role: Any, at: str, report: RowReport) -> str | None:
    """The assistant's reasoning, under any of its keys."""
    given = {key: value[key] for key in REASONING if value.get(key) not in (None, "", [])}
    for key, thought in given.items():
        if not isinstance(thought, str):
            report.add("bad-reasoning", f"{key} is not a text.", f"{at}/{key}")
            return None
        if role != "assistant":
            report.add("bad-reasoning", f"{key} is on a turn of {role!r:.40}.", f"{at}/{key}")
            return None
    if len(set(given.values())) > 1:
        keys = list(given)
        report.add("bad-reasoning", f"{keys[0]} and {keys[1]} have different texts.", f"{at}/{keys[1]}")
        return None
    return next(iter(given.values()), None)


def _report_unknown_key(key: str, at: str, report: RowReport, thought: str | None = None) -> None:
    if key in _OTHER_REASONING and thought is None:
        report.add("bad-reasoning", f"{key} has the assistant's reasoning, but it is not supported.", at)
    else:
        report.add("unknown-key", f"{key} is not a key of a message. It is left out.", at)


def _check_role(role: Any, at: str, report: RowReport) -> None:
    if role is None:
        report.add("missing-role", "The message has no role.", at)
    elif role == "":
        report.add("empty-role", "The role is empty.", at)
    elif role not in ROLES:
        report.add("unknown-role", f"{role!r:.60} is not a role.", at)


def _read_content(value: Any, at: str, report: RowReport) -> Content:
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        report.add("bad-content", "The content is neither a text nor a list of parts.", at)
        return None
    value = remove_nulls(value, at, report)
    for index, part in enumerate(value):
        _check_part(part, f"{at}/{index}", report)
    found: list[dict[str, Any]] = value
    return found


def _check_part(part: Any, at: str, report: RowReport) -> None:
    wanted = _PARTS.get(str(part.get("type"))) if isinstance(part, dict) else None
    if wanted is None:
        kind = f"of type {part['type']!r:.40}" if isinstance(part, dict) and part.get("type") else "without a type"
        report.add("bad-part", f"A part {kind} is not supported. Supported are {KNOWN}.", at, _part_remedy(part))
    elif wanted == "text" and not isinstance(part.get("text"), str):
        report.add("bad-part", "A text part has no text.", at)
    elif wanted == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else None
        if not isinstance(url, str) or not url.startswith(("http://", "https://", "data:image/")):
            report.add("bad-part", "An image part has no url that starts with https: or data:image/.", at)


def _part_remedy(part: Any) -> str | None:
    kind = str(part.get("type")) if isinstance(part, dict) else ""
    if "redacted" in kind:
        return "Remove the part: a model learns nothing from encrypted text."
    if "image" in kind:
        return 'Write {"type": "image_url", "image_url": {"url": "data:image/png;base64,…"}}.'
    return 'Write its text as {"type": "text", "text": "…"}, or remove it.' if kind else None


def _optional_text(value: Any, at: str, report: RowReport) -> str | None:
    if value is None or isinstance(value, str):
        return value
    report.add("not-text", f"{at.rpartition('/')[2]} is not a text.", at)
    return None


def _weight(value: Any, role: Any, at: str, report: RowReport) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or value not in (0, 1):
        report.add("bad-weight", f"The weight is {value!r:.40}.", at)
    elif role != "assistant":
        report.add("weight-not-on-assistant", f"A {role} turn has a weight. It is left out.", at)
    else:
        return int(value)
    return None


def read_sharegpt(value: Any, pointer: str, report: RowReport) -> tuple[Message, ...]:
    """ShareGPT's turns: `from` and `value`, with its names of roles."""
    value = _transpose(value)
    if not isinstance(value, list) or not value:
        report.add("no-messages", "There are no turns." if value == [] else "This is not a list of turns.", pointer)
        return ()
    if not any(isinstance(one, dict) and one.keys() & _TURN_KEYS for one in value):
        pairs = history_turns(value, pointer, RowReport(None))
        if pairs:
            report.add("read-as-turn", "Pairs of a question and an answer are read as turns.", pointer)
            report.origins = {**report.origins, pointer: [place // 2 for place in range(len(pairs))]}
            return tuple(pairs)
    return _read_turns(value, pointer, report, _read_sharegpt_turn)


def _read_sharegpt_turn(turn: Any, at: str, report: RowReport) -> Message:
    if not isinstance(turn, dict) or "from" not in turn:
        return _read_message(turn, at, report)
    turn = _read_train_key(turn, at, report)
    speaker, text = turn["from"], turn.get("value")
    role = _SHAREGPT_ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None and isinstance(speaker, str):
        bare = speaker.strip().lower()
        role = _SHAREGPT_ROLES.get(bare) or _OTHER_ROLES.get(bare)
        if role is not None:
            report.add("read-as-turn", f"The speaker {speaker!r:.40} is read as {role}.", f"{at}/from")
            speaker = bare
    thought = _read_reasoning(turn, role, at, report)
    for key in turn.keys() - {"from", "value", "weight", *REASONING}:
        if turn[key] is not None:
            _report_unknown_key(key, f"{at}/{escape(key)}", report, thought)
    if not speaker:
        report.add("empty-role" if speaker == "" else "missing-role", "The turn has no speaker.", f"{at}/from")
    elif role is None:
        report.add("unknown-role", f"{speaker!r:.60} is not a speaker.", f"{at}/from")
    if text is not None and not isinstance(text, str) and role == "tool":
        report.add("read-as-text", "The tool's answer is read as JSON text.", f"{at}/value")
        text = json.dumps(text, ensure_ascii=False)
    calling = isinstance(speaker, str) and speaker in CALL_ROLES
    if text is not None and not isinstance(text, str) and not calling:
        report.add("bad-content", "The value is not a text.", f"{at}/value")
        text = None
    weight = _weight(turn.get("weight"), role, f"{at}/weight", report)
    if calling:
        calls = read_calls(text, f"{at}/value", report)
        if calls is None and not report.failed:
            report.add("bad-tool-call", 'The call is not {"name": …, "arguments": {…}} in JSON.', f"{at}/value")
        return Message(role="assistant", tool_calls=calls, weight=weight, reasoning_content=thought)
    text = drop_repeated_thought(text, thought, f"{at}/value", report)
    return Message(role=role or "", content=text, weight=weight, reasoning_content=thought)
