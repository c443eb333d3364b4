"""The vendor's rules for data, checked before anything is sent, and the exact file that is sent."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tuneport.errors import UsageError
from tuneport.plugin import Completion, Conversation, DataRules, Diagnostic, Example, Message, Preference, replace_file
from tuneport_openai.catalog.table import end_of, find_model
from tuneport_openai.catalog.tokens import counter, how_to_count
from tuneport_openai.wire import closing
from tuneport_openai.wire.profiles import Profile

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
_MAX_TOOLS = 128
_MAX_IMAGE_BYTES = 10 * 1024 * 1024
_IMAGE = re.compile(r"data:image/(?P<kind>[a-z+.-]+);base64,(?P<data>.*)\Z", re.DOTALL)
_SHAPES: dict[str, frozenset[Any]] = {
    "sft": frozenset({"conversation"}),
    "dpo": frozenset({"preference"}),
    "reinforcement": frozenset({"conversation"}),
}


def data_rules(profile: Profile, model: str) -> DataRules:
    """What data that endpoint takes for that model. Uses no network."""
    traits, facts = profile.traits, find_model(profile, model)
    count = counter(facts.encoding) if facts else None
    announced = closing.announcement(profile)
    notes = list(filter(None, (f"{announced}." if announced else "", end_of(facts) if facts else "")))
    if not traits.openai_models:
        notes.append(f"The rules of {profile.name} are not known here; only the API's own are checked.")
    elif facts is None and model:
        notes.append(f"The limits of {model} are unknown; lengths are not checked.")
    elif facts is not None and facts.encoding and count is None:
        notes.append(f"Lengths are not checked: tokens cannot be counted. {how_to_count(facts.encoding)}")
    return DataRules(
        shapes=_SHAPES,
        images=facts is None or facts.images is not False,
        min_rows=traits.min_rows,
        max_tokens=facts.max_tokens if facts and count else None,
        max_bytes=traits.max_bytes,
        count_tokens=count,
        check_row=partial(check_row, most_images=traits.most_images, knows_reasoning=not traits.openai_models),
        notes=tuple(notes),
    )


def check_row(example: Example, *, most_images: int | None = None, knows_reasoning: bool = False) -> list[Diagnostic]:
    """What the wire or the vendor refuses in one row; pointers are into the row as it is sent.

    `knows_reasoning`: the server may train on `reasoning_content`; OpenAI and Azure do not take it.
    """
    return [*_findings(example, most_images), *_reasoning(example, knows_reasoning=knows_reasoning)]


def wire_row(example: Example, method: str = "sft") -> dict[str, Any]:
    """A row as it is sent: messages, a preference pair, or for reinforcement the prompt and its `reference_answer`."""
    if isinstance(example, Preference):
        given: dict[str, Any] = {"messages": [_turn(one) for one in example.prompt]}
        if example.tools:
            given["tools"] = list(example.tools)
        return {
            "input": given,
            "preferred_output": [_turn(one) for one in example.chosen],
            "non_preferred_output": [_turn(one) for one in example.rejected],
        }
    if isinstance(example, Completion):
        raise UsageError(
            "This API takes conversations, but this row is plain text with a completion.",
            remedy="Write the rows as messages, or name the columns question and answer.",
        )
    turns = [_turn(one) for one in example.messages]
    row: dict[str, Any] = {"messages": turns}
    if method == "reinforcement" and turns and turns[-1]["role"] == "assistant":
        row = {"messages": turns[:-1], "reference_answer": example.messages[-1].text}
    if example.tools:
        row["tools"] = list(example.tools)
    if example.parallel_tool_calls is not None:
        row["parallel_tool_calls"] = example.parallel_tool_calls
    return row


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFile:
    """A file as it is sent. `sha256` is of its bytes; `system` is the system prompt that all rows share, if any."""

    path: Path
    sha256: str
    bytes: int
    rows: int
    dropped: int
    system: str | None

    @property
    def name(self) -> str:
        """Its name at the server: the same bytes have the same name."""
        return f"tuneport-{self.sha256}.jsonl"


def write_rows(
    examples: Iterable[Example], folder: Path, method: str = "sft", *, drop: DataRules | None = None
) -> WireFile:
    """Write the exact file that is sent into a folder, named by its SHA-256, completely or not at all.

    `drop` leaves out, and counts, rows that are longer than the `max_tokens` of these rules.
    """
    sha, size, rows, dropped = hashlib.sha256(), 0, 0, 0
    systems: set[str | None] = set()
    draft = folder / f"writing-{uuid.uuid4().hex}.jsonl"  # the name follows from the bytes
    try:
        with replace_file(draft) as out:
            for example in examples:
                if drop is not None and _is_too_long(example, drop):
                    dropped += 1
                    continue
                line = json.dumps(wire_row(example, method), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
                out.write(line)
                sha.update(line)
                size, rows = size + len(line), rows + 1
                if len(systems) < 2 and isinstance(example, Conversation):
                    systems.add(_system(example))
        path = draft.replace(folder / f"tuneport-{sha.hexdigest()}.jsonl")
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    system = systems.pop() if len(systems) == 1 else None
    return WireFile(path=path, sha256=sha.hexdigest(), bytes=size, rows=rows, dropped=dropped, system=system)


def _turn(message: Message) -> dict[str, Any]:
    turn = message.to_dict()
    if "weight" in turn:
        turn["weight"] = int(turn["weight"])  # 1.0 and 0.0 are refused there; check_row refuses any other
        if turn["role"] != "assistant":
            del turn["weight"]  # means nothing on a turn that is never trained on
    if message.tool_calls and "content" not in turn:
        turn["content"] = None
    return turn


def _system(example: Conversation) -> str | None:
    first = example.messages[0] if example.messages else None
    return first.text if first is not None and first.role in ("system", "developer") else None


def _is_too_long(example: Example, rules: DataRules) -> bool:
    if rules.count_tokens is None or rules.max_tokens is None:
        return False
    return rules.count_tokens([example])[0] > rules.max_tokens


def _findings(example: Example, most_images: int | None) -> Iterator[Diagnostic]:
    if isinstance(example, Completion):
        return
    if isinstance(example, Preference):
        parts = {"input/messages": example.prompt}
        yield from _check_arm("preferred_output", example.chosen)
        yield from _check_arm("non_preferred_output", example.rejected)
    else:
        parts = {"messages": example.messages}
    yield from _check_tools(example.tools)
    images = 0
    for part, turns in parts.items():
        for index, turn in enumerate(turns):
            at = f"/{part}/{index}"
            yield from _check_turn(turn, at)
            for place, piece in enumerate(turn.content if isinstance(turn.content, list) else ()):
                if piece.get("type") == "image_url":
                    images += 1
                    yield from _check_image(piece, turn.role, f"{at}/content/{place}")
    if most_images is not None and images > most_images:
        yield _error(
            "too-many-images",
            f"The row has {images} images; the limit is {most_images}.",
            "Split the row.",
            "/messages",
        )


def _reasoning(example: Example, *, knows_reasoning: bool) -> Iterator[Diagnostic]:
    """Reasoning of the assistant: OpenAI's training has no field for it; other servers may have one."""
    if isinstance(example, Completion):
        return
    if isinstance(example, Preference):
        parts = {"input/messages": example.prompt, "preferred_output": example.chosen}
        parts["non_preferred_output"] = example.rejected
    else:
        parts = {"messages": example.messages}
    for part, turns in parts.items():
        for index, turn in enumerate(turns):
            if not turn.reasoning_content:
                continue
            at = f"/{part}/{index}/reasoning_content"
            if knows_reasoning:
                yield Diagnostic(
                    code="reasoning-sent",
                    severity="note",
                    message="reasoning_content is sent; whether this server trains on it is not known here.",
                    remedy="Check the server's documentation, or write it into the content as <think>…</think>.",
                    pointer=at,
                )
            else:
                yield _error(
                    "reasoning-not-taken",
                    "The vendor takes no reasoning_content.",
                    "Write it into the content, or remove it.",
                    at,
                )


def _check_turn(turn: Message, at: str) -> Iterator[Diagnostic]:
    if turn.weight is not None and turn.weight not in (0, 1):
        yield _error(
            "weight-not-taken",
            f"The weight is {turn.weight:g}; the API takes 0 and 1.",
            "Write 0 or 1.",
            f"{at}/weight",
        )
    if turn.name is not None and not _NAME.match(turn.name):
        yield _error(
            "name-not-taken",
            "A turn's name is not 1 to 64 letters, digits, - and _.",
            "Shorten it, or put the name into the text.",
            f"{at}/name",
        )
    for place, call in enumerate(turn.tool_calls or ()):
        arguments = call.get("function", {}).get("arguments")
        try:
            is_object = isinstance(json.loads(arguments), dict)
        except (TypeError, ValueError):
            is_object = False
        if not is_object:
            yield _error(
                "tool-arguments",
                "A tool call's arguments are not a JSON object written as text.",
                'Write them as "{\\"city\\": \\"Paris\\"}".',
                f"{at}/tool_calls/{place}/function/arguments",
            )


def _check_tools(tools: tuple[dict[str, Any], ...]) -> Iterator[Diagnostic]:
    if len(tools) > _MAX_TOOLS:
        yield _error(
            "too-many-tools", f"The row has {len(tools)} tools; the limit is {_MAX_TOOLS}.", "Leave some out.", "/tools"
        )
    for place, tool in enumerate(tools):
        name = tool.get("function", {}).get("name", "")
        if not isinstance(name, str) or not _NAME.match(name):
            yield _error(
                "tool-name",
                "A tool's name is not 1 to 64 letters, digits, - and _.",
                "Rename the tool in the list and in its calls.",
                f"/tools/{place}/function/name",
            )


def _check_arm(part: str, turns: tuple[Message, ...]) -> Iterator[Diagnostic]:
    if len(turns) != 1 or turns[0].role != "assistant":
        yield _error(
            "arm-not-one-answer",
            f"{part} is not one assistant turn.",
            "Move the turns before the answer into the input.",
            f"/{part}",
        )
    elif not isinstance(turns[0].content, str):
        yield _error("arm-not-text", f"{part} is not text.", "Only text answers can be compared.", f"/{part}/0")


def _check_image(piece: dict[str, Any], role: str, at: str) -> Iterator[Diagnostic]:
    if role != "user":
        yield _error("image-place", f"The {role} turn has an image.", "Move it to a user turn.", at)
    link = piece.get("image_url")
    address = link.get("url") if isinstance(link, dict) else link
    if not isinstance(address, str) or not address.startswith(("https://", "http://", "data:")):
        yield _error("image-address", "An image is neither a URL nor a data URL.", "Write data:image/png;base64,…", at)
        return
    if not address.startswith("data:"):
        return
    found = _IMAGE.match(address)
    if found is None or found["kind"] not in ("png", "jpeg", "jpg", "webp"):
        yield _error("image-format", "An image is not PNG, JPEG or WEBP in base64.", "Convert it.", at)
        return
    try:
        size = len(base64.b64decode(found["data"], validate=True))
    except ValueError:
        yield _error("image-format", "An image's base64 is broken.", "Encode it again.", at)
        return
    if size > _MAX_IMAGE_BYTES:
        yield _error(
            "image-too-large", f"An image has {size / 2**20:.1f} MiB; the limit is 10 MiB.", "Make it smaller.", at
        )


def _error(code: str, message: str, remedy: str, pointer: str) -> Diagnostic:
    return Diagnostic(code=code, severity="error", message=message, remedy=remedy, pointer=pointer)
