"""Remedies for one row: what `fix` changes in it, and what it cannot save."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from tuneport.dataset.check.one_row import CONTROL, ENTITY, INVISIBLE, MOJIBAKE, TERMINAL, blank, check_example, trim
from tuneport.dataset.example import Completion, Conversation, Example, Message, Preference
from tuneport.dataset.findings.findings import RowReport
from tuneport.dataset.read.values import example_of
from tuneport.dataset.shapes.recipe import Recipe

Action = Literal["changed", "dropped"]
_READ_OTHERWISE = frozenset(
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
"""Findings about what reading a row has changed already."""
_CLIP = 200
# Windows-1252 differs from Latin-1 in these bytes; those that it leaves undefined are read as in Latin-1 in practice.
_TO_LATIN_1 = {ord(bytes([byte]).decode("cp1252", "ignore") or chr(byte)): byte for byte in range(0x80, 0xA0)}


@dataclass(frozen=True, slots=True)
class Remedy:
    """What `fix` does about a code, in words; `asked` ones are applied only when they are named."""

    action: Action
    what: str
    asked: bool = False


REMEDIES: Mapping[str, Remedy] = {
    "bad-weight": Remedy("changed", "makes it 1 where it is above 0, else 0; what is no number is removed"),
    "weight-not-on-assistant": Remedy("changed", "removes the weight"),
    "unknown-key": Remedy("changed", "removes the key"),
    "read-as-text": Remedy("changed", "writes it as a text"),
    "read-as-tool": Remedy("changed", "writes the usual form"),
    "read-as-tool-call": Remedy("changed", "writes the usual form, with ids"),
    "read-as-turn": Remedy("changed", "writes the usual form"),
    "null-left-out": Remedy("changed", "leaves the keys out"),
    "mojibake": Remedy("changed", "reads the text in the right encoding, where all of it can be"),
    "control-character": Remedy("changed", "removes them, and the colours of a terminal as a whole"),
    "html-entities": Remedy("changed", "writes the characters that they stand for", asked=True),
    "invisible-character": Remedy("changed", "removes them", asked=True),
    "edge-whitespace": Remedy("changed", "strips the text; where prompt and completion meet it stays"),
    "empty-content": Remedy("changed", "removes the turn", asked=True),
    "consecutive-roles": Remedy("changed", "joins the turns with an empty line between, where both are text"),
    "last-not-assistant": Remedy("changed", "removes the turns after the last answer", asked=True),
    "names-as-row": Remedy("dropped", "drops the row"),
    "total-line": Remedy("dropped", "drops the row", asked=True),
    "duplicate": Remedy("dropped", "keeps the first of the rows"),
    "near-duplicate": Remedy("dropped", "keeps the first of the rows, and drops duplicates too", asked=True),
    "conflicting-answers": Remedy("dropped", "keeps the rows with the answer that came first", asked=True),
    "leaked-row": Remedy("dropped", "drops the row here; `--against FILE` names the held-out data", asked=True),
}
"""What `fix` can do, by code. A row with an error that stands is always dropped: no file could hold it as it is."""


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to one row, with long texts cut; `pointer` is a JSON pointer into the row as it was read.

    `message` says why a row was dropped.
    """

    line: int | None
    pointer: str | None
    code: str
    action: Action
    before: str | None = None
    after: str | None = None
    message: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {name: getattr(self, name) for name in self.__slots__}


def mend(recipe: Recipe, values: Any, line: int | None, wanted: frozenset[str]) -> tuple[Example | None, list[Change]]:
    """The example of a row with the wanted remedies applied, or None where an error stands; and what was done."""
    changes: list[Change] = []
    report = RowReport(line)
    example = example_of(recipe, values, report)
    if example is None and "bad-weight" in wanted:
        changes += _mend_weights(values, report)
        report = RowReport(line)
        example = example_of(recipe, values, report)
    if example is None:
        return None, [dropped(report, values)]
    if (change := unwanted(report, values, wanted)) is not None:
        return None, [change]
    for finding in report.found:
        if finding.code in _READ_OTHERWISE:
            changes.append(Change(line, finding.pointer, finding.code, "changed"))
    found = _found(example, report)
    while codes := wanted & {finding.code for finding in found.found}:
        mended = _apply(example, codes, report, changes)
        if mended == example:
            break
        example, found = mended, _found(mended, report)
    return (None, [dropped(found, values)]) if found.failed else (example, changes)


def unwanted(report: RowReport, values: Any, wanted: frozenset[str]) -> Change | None:
    """The change of a sound row that a wanted remedy drops for what was found in reading it."""
    for one in report.found:
        if one.code in wanted and REMEDIES[one.code].action == "dropped":
            return Change(report.line, one.pointer, one.code, "dropped", clip(values), message=one.message)
    return None


def dropped(report: RowReport, values: Any) -> Change:
    """The change that a row with an error undergoes."""
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
    """The value as text, cut to what one can look at."""
    if not isinstance(value, str):
        value = msgspec.json.encode(value, enc_hook=repr).decode("utf-8", "replace")
    return value if len(value) <= _CLIP else f"{value[:_CLIP]}…"


def _found(example: Example, report: RowReport) -> RowReport:
    found = RowReport(report.line)
    found.place = report.place
    check_example(example, found)
    return found


def _mend_weights(values: Any, report: RowReport) -> Iterator[Change]:
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
        before, holder[key] = holder[key], _weight(holder[key])
        yield Change(report.line, finding.pointer, "bad-weight", "changed", clip(before), clip(holder[key]))


def _weight(value: Any) -> int | None:
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
    def noted(text: str, after: str, pointer: str) -> str:
        if after != text:
            changes.append(Change(report.line, pointer, code, "changed", clip(text), clip(after)))
        return after

    def change(text: str, pointer: str) -> str:
        return noted(text, remedy([text])[0], pointer)

    def one(message: Message, pointer: str) -> Message:
        if isinstance(message.content, str):
            return msgspec.structs.replace(message, content=change(message.content, pointer))
        texts = [part["text"] for part in message.content or () if part.get("type") == "text"]
        mended = remedy(texts)
        if mended == texts:
            return message
        changes.append(Change(report.line, pointer, code, "changed", clip("".join(texts)), clip("".join(mended))))
        rest = iter(mended)
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
    mended = trim(example) if code == "edge-whitespace" else [remedy([text])[0] for text in texts]
    places = (report.place("prompt", 0), report.place("completion", 0))
    prompt, completion = map(noted, texts, mended, places)
    return Completion(prompt=prompt, completion=completion)


def _without_control(texts: list[str]) -> list[str]:
    return [CONTROL.sub("", TERMINAL.sub("", text)) for text in texts]


def _without_mojibake(texts: list[str]) -> list[str]:
    return [_decoded(text) if MOJIBAKE.search(text) else text for text in texts]


def _decoded(text: str) -> str:
    """The text whose UTF-8 bytes were read as Windows-1252 or Latin-1, or the text itself where that cannot be."""
    try:
        decoded = text.translate(_TO_LATIN_1).encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
    # What gives control characters, or nothing, was no text in another encoding.
    return text if blank(decoded) or (CONTROL.search(decoded) and not CONTROL.search(text)) else decoded


def _without_entities(texts: list[str]) -> list[str]:
    return [ENTITY.sub(lambda found: html.unescape(found[0]), text) for text in texts]


def _without_invisible(texts: list[str]) -> list[str]:
    return [INVISIBLE.sub("", text) for text in texts]


def _stripped(texts: list[str]) -> list[str]:
    """The parts of one text without the white space at its two ends."""
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


def _without_empty(messages: tuple[Message, ...], report: RowReport, changes: list[Change]) -> Iterator[Message]:
    for index, message in enumerate(messages):
        plain = message.content is None or isinstance(message.content, str)
        if plain and blank(message.text) and not message.tool_calls and message.role not in ("assistant", "tool"):
            changes.append(
                Change(report.line, report.place("messages", index), "empty-content", "changed", message.role)
            )
        else:
            yield message


def _joined(messages: tuple[Message, ...], report: RowReport, changes: list[Change]) -> Iterator[Message]:
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
    if other.reasoning_content:  # it would be lost: the thinking stands before the joined answer
        return False
    return one.name == other.name and (one.weight == 0) == (other.weight == 0)


def _to_last_answer(messages: tuple[Message, ...], report: RowReport, changes: list[Change]) -> tuple[Message, ...]:
    last = max((index for index, message in enumerate(messages) if message.role == "assistant"), default=-1)
    for index, message in enumerate(messages[last + 1 :], last + 1):
        place = report.place("messages", index)
        changes.append(Change(report.line, place, "last-not-assistant", "changed", clip(message.text)))
    return messages[: last + 1]


# In this order: a byte read as a control character may be half of a mojibake, and either may hide white space.
_TEXT_REMEDIES: tuple[tuple[str, Callable[[list[str]], list[str]]], ...] = (
    ("mojibake", _without_mojibake),
    ("control-character", _without_control),
    ("html-entities", _without_entities),
    ("invisible-character", _without_invisible),
    ("edge-whitespace", _stripped),
)
_TURN_REMEDIES: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("empty-content", _without_empty),
    ("consecutive-roles", _joined),
    ("last-not-assistant", _to_last_answer),
)
