"""Applies remedies to one row."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from tuneport.dataset.check.one_row import CONTROL, ENTITY, INVISIBLE, MOJIBAKE, TERMINAL, check_example, is_blank, trim
from tuneport.dataset.example import Completion, Conversation, Example, Message, Preference
from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.fix.remedies import REMEDIES, Change
from tuneport.dataset.shapes.convert import read_example
from tuneport.dataset.shapes.recipe import Recipe

_CONVERSIONS = frozenset(
    {
        "unknown-key",
        "weight-not-on-assistant",
        "read-as-text",
        "read-as-tool",
        "read-as-tool-call",
        "read-as-turn",
        "null-left-out",
    }
)
"""Findings about changes that reading a row makes."""
_SHOWN = 200
# Windows-1252 differs from Latin-1 in these bytes. Those that it leaves undefined are read as in Latin-1 in practice.
_TO_LATIN_1 = {ord(bytes([byte]).decode("cp1252", "ignore") or chr(byte)): byte for byte in range(0x80, 0xA0)}


def fix_row(
    recipe: Recipe, values: Any, line: int | None, wanted: frozenset[str]
) -> tuple[Example | None, list[Change]]:
    """The example of a row after the wanted remedies, or None where an error remains; and the changes."""
    changes: list[Change] = []
    report = RowReport(line)
    example = read_example(recipe, values, report)
    if example is None and "bad-weight" in wanted:
        changes += _fix_weights(values, report)
        report = RowReport(line)
        example = read_example(recipe, values, report)
    if example is None:
        return None, [drop_for_error(report, values)]
    if (change := drop_for_remedy(report, values, wanted)) is not None:
        return None, [change]
    for finding in report.found:
        if finding.code in _CONVERSIONS:
            changes.append(Change(line, finding.pointer, finding.code, "changed"))
    found = _check_again(example, report)
    while codes := wanted & {finding.code for finding in found.found}:
        fixed = _apply(example, codes, report, changes)
        if fixed == example:
            break
        example, found = fixed, _check_again(fixed, report)
    return (None, [drop_for_error(found, values)]) if found.failed else (example, changes)


def drop_for_remedy(report: RowReport, values: Any, wanted: frozenset[str]) -> Change | None:
    """The change of a row that a wanted remedy drops for a finding of its reader; None for other rows."""
    for one in report.found:
        if one.code in wanted and REMEDIES[one.code].action == "dropped":
            return Change(report.line, one.pointer, one.code, "dropped", clip(values), message=one.message)
    return None


def drop_for_error(report: RowReport, values: Any) -> Change:
    """The change of a row that is dropped for an error."""
    error = next(finding for finding in report.found if finding.level == "error")
    return Change(
        report.line,
        error.pointer,
        error.code,
        "dropped",
        before=None if values is None else clip(values),
        message=error.message,
    )


def clip(value: Any) -> str:
    """The value as text, cut to a readable length."""
    if not isinstance(value, str):
        value = msgspec.json.encode(value, enc_hook=repr).decode("utf-8", "replace")
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"


def _check_again(example: Example, report: RowReport) -> RowReport:
    found = RowReport(report.line)
    found.place = report.place
    check_example(example, found)
    return found


def _fix_weights(values: Any, report: RowReport) -> Iterator[Change]:
    for finding in report.found:
        if finding.code != "bad-weight" or finding.pointer is None:
            continue
        *path, key = finding.pointer.split("/")[1:]
        holder = values
        for part in path:
            name: Any = int(part) if isinstance(holder, list) else part.replace("~1", "/").replace("~0", "~")
            if isinstance(holder[name], str):  # a table's cell
                holder[name] = msgspec.json.decode(holder[name])
            holder = holder[name]
        before, holder[key] = holder[key], _to_weight(holder[key])
        yield Change(report.line, finding.pointer, "bad-weight", "changed", clip(before), clip(holder[key]))


def _to_weight(value: Any) -> int | None:
    try:
        return int(float(value) > 0)
    except (TypeError, ValueError):
        return None


def _apply(example: Example, codes: frozenset[str], report: RowReport, changes: list[Change]) -> Example:
    """One round of remedies."""
    for code, remedy in _TEXT_REMEDIES:
        if code in codes:
            example = _each_text(example, code, remedy, report, changes)
    if isinstance(example, Conversation):
        for code, rewrite in _TURN_REMEDIES:
            if code in codes:
                messages = tuple(rewrite(example.messages, report, changes))
                example = msgspec.structs.replace(example, messages=messages)
    return example


def _each_text(
    example: Example, code: str, remedy: Callable[[list[str]], list[str]], report: RowReport, changes: list[Change]
) -> Example:
    def note(text: str, after: str, pointer: str) -> str:
        if after != text:
            changes.append(Change(report.line, pointer, code, "changed", clip(text), clip(after)))
        return after

    def change(text: str, pointer: str) -> str:
        return note(text, remedy([text])[0], pointer)

    def one(message: Message, pointer: str) -> Message:
        if isinstance(message.content, str):
            return msgspec.structs.replace(message, content=change(message.content, pointer))
        texts = [part["text"] for part in message.content or () if part.get("type") == "text"]
        fixed = remedy(texts)
        if fixed == texts:
            return message
        changes.append(Change(report.line, pointer, code, "changed", clip("".join(texts)), clip("".join(fixed))))
        rest = iter(fixed)
        parts = [part | {"text": next(rest)} if part.get("type") == "text" else part for part in message.content or ()]
        return msgspec.structs.replace(message, content=parts)

    def each(part: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return tuple(one(message, report.place(part, index)) for index, message in enumerate(messages))

    if isinstance(example, Conversation):
        return msgspec.structs.replace(example, messages=each("messages", example.messages))
    if isinstance(example, Preference):
        arms = {part: each(part, getattr(example, part)) for part in ("prompt", "chosen", "rejected")}
        return msgspec.structs.replace(example, **arms)
    texts = (example.prompt, example.completion)
    fixed = trim(example) if code == "edge-whitespace" else [remedy([text])[0] for text in texts]
    places = (report.place("prompt", 0), report.place("completion", 0))
    prompt, completion = map(note, texts, fixed, places)
    return Completion(prompt=prompt, completion=completion)


def _remove_control(texts: list[str]) -> list[str]:
    return [CONTROL.sub("", TERMINAL.sub("", text)) for text in texts]


def _repair_mojibake(texts: list[str]) -> list[str]:
    return [_decode(text) if MOJIBAKE.search(text) else text for text in texts]


def _decode(text: str) -> str:
    """The text whose UTF-8 bytes were read as Windows-1252 or Latin-1, or the text itself if there is none."""
    try:
        decoded = text.translate(_TO_LATIN_1).encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
    # If the result is blank or has control characters, the text was not in another encoding.
    return text if is_blank(decoded) or (CONTROL.search(decoded) and not CONTROL.search(text)) else decoded


def _decode_entities(texts: list[str]) -> list[str]:
    return [ENTITY.sub(lambda found: html.unescape(found[0]), text) for text in texts]


def _remove_invisible(texts: list[str]) -> list[str]:
    return [INVISIBLE.sub("", text) for text in texts]


def _strip(texts: list[str]) -> list[str]:
    """The parts of one text without white space at its two ends."""
    texts = list(texts)
    for index, text in enumerate(texts):
        texts[index] = text.lstrip()
        if texts[index]:
            break
    for index in range(len(texts) - 1, -1, -1):
        texts[index] = texts[index].rstrip()
        if texts[index]:
            break
    return texts


def _remove_empty_turns(messages: tuple[Message, ...], report: RowReport, changes: list[Change]) -> Iterator[Message]:
    for index, message in enumerate(messages):
        plain = message.content is None or isinstance(message.content, str)
        if plain and is_blank(message.text) and not message.tool_calls and message.role not in ("assistant", "tool"):
            changes.append(
                Change(report.line, report.place("messages", index), "empty-content", "changed", message.role)
            )
        else:
            yield message


def _join_turns(messages: tuple[Message, ...], report: RowReport, changes: list[Change]) -> Iterator[Message]:
    held: Message | None = None
    for index, message in enumerate(messages):
        if held is not None and _can_join(held, message):
            joined = f"{held.content}\n\n{message.content}"
            place = report.place("messages", index)
            changes.append(Change(report.line, place, "consecutive-roles", "changed", clip(message.text), clip(joined)))
            held = msgspec.structs.replace(held, content=joined)
            continue
        if held is not None:
            yield held
        held = message
    if held is not None:
        yield held


def _can_join(one: Message, other: Message) -> bool:
    if one.role != other.role or one.role not in ("user", "assistant"):
        return False
    if not (isinstance(one.content, str) and isinstance(other.content, str)) or one.tool_calls or other.tool_calls:
        return False
    if other.reasoning_content:  # it would be lost
        return False
    return one.name == other.name and (one.weight == 0) == (other.weight == 0)


def _cut_after_answer(messages: tuple[Message, ...], report: RowReport, changes: list[Change]) -> tuple[Message, ...]:
    last = max((index for index, message in enumerate(messages) if message.role == "assistant"), default=-1)
    for index, message in enumerate(messages[last + 1 :], last + 1):
        place = report.place("messages", index)
        changes.append(Change(report.line, place, "last-not-assistant", "changed", clip(message.text)))
    return messages[: last + 1]


# The order matters: a control character may be half of mojibake, and either may hide white space.
_TEXT_REMEDIES: tuple[tuple[str, Callable[[list[str]], list[str]]], ...] = (
    ("mojibake", _repair_mojibake),
    ("control-character", _remove_control),
    ("html-entities", _decode_entities),
    ("invisible-character", _remove_invisible),
    ("edge-whitespace", _strip),
)
_TURN_REMEDIES: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("empty-content", _remove_empty_turns),
    ("consecutive-roles", _join_turns),
    ("last-not-assistant", _cut_after_answer),
)
