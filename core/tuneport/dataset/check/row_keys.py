"""Numbers that identify a row: its prompt, its complete text, and its exact content."""

from __future__ import annotations

import json
import re
import struct
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from xxhash import xxh3_64_intdigest

from tuneport.dataset.example import Completion, Example, Message, Preference

ROW_KEYS = 24  # bytes: the keys of the prompt, of the complete text and of the exact content
PROMPT, TEXT, EXACT = range(3)
"""The three numbers of a row."""
_KEYS = struct.Struct("=QQ4sI")

_IGNORED = bytes((*range(33), 127)) + b"\"'`!?\\"
_LOWER = bytes(range(256)).lower()
# Invisible characters and variants of others, in UTF-8: control characters, soft hyphens, joiners, direction marks,
# curly quotes, dashes, special spaces (U+2000 to U+203F), variation selectors, byte order marks, tags.
_UNSEEN = re.compile(
    rb"\xc2[\x80-\x9f\xad]|\xcd\x8f|\xd8\x9c|\xe1\xa0[\x8b-\x8e]|\xe2(?:\x80[\x80-\xbf]|\x81[\xa0-\xaf])"
    rb"|\xef(?:\xb8[\x80-\x8f]|\xbb\xbf)|\xf3\xa0[\x80-\x87][\x80-\xbf]"
)
_MAY_BE_UNSEEN = (
    b"\xc2",
    b"\xe2\x80",
    b"\xe2\x81",
    b"\xef\xb8",
    b"\xef\xbb",
    b"\xcd\x8f",
    b"\xd8\x9c",
    b"\xe1\xa0",
    b"\xf3\xa0",
)
_STRUCTURE = b".,]}"  # characters without meaning at the end of a normalized text
TURN = "\1"
"""Separates the turns of a normalized conversation."""
_TURN = TURN.encode()
_WITHIN = b"\2"  # comes before a turn's calls and images
_CONTROL = b"\0"
_THINKS, _THOUGHT = b"<think>", b"</think>"
_SYSTEM = frozenset({"system", "developer"})
_LOWER_OR_CONTROL = bytes(
    lower if byte in b"\t\n\r" + _TURN or 32 <= byte != 127 else _CONTROL[0] for byte, lower in enumerate(_LOWER)
)
_IGNORED_BUT_CONTROL = b" \t\n\r\"'`!?\\"


def row_keys(example: Example, digest: bytes) -> bytes:
    """24 bytes that identify a row: 8 for its prompt, 8 for its complete text, and 8 for its exact content, 4 of which
    are for the assistant's reasoning.

    The key of the text ignores the system prompt, the tools and turns after the last answer, so that a row stays in its
    part of a split when these change. The keys of prompt and text depend on what turns say, not on how it is written:
    they ignore the ids of calls, the order of arguments, whether texts are parts, case, white space, quotes, `!`, `?`,
    invisible characters and a full stop at the end. Unicode is compared in its compatibility form (NFKC). They also
    ignore reasoning: for a split, the same answer after other reasoning is the same row. `digest` is the example's
    content digest.
    """
    prompt, bare, answer, thought = (part.rstrip(_STRUCTURE) for part in _row_texts(example))
    keys = xxh3_64_intdigest(prompt), xxh3_64_intdigest(bare + _TURN + answer)
    return _KEYS.pack(*keys, digest[:4], _thought_key(thought))


def _thought_key(thought: bytes) -> int:
    return xxh3_64_intdigest(thought) & 0xFFFFFFFF if thought else 0


def text_key(example: Example) -> int:
    """The key of an example's text, as in `row_keys`."""
    key: int = _KEYS.unpack_from(row_keys(example, b""))[1]
    return key


def many_row_keys(texts: list[str], counts: Sequence[int], systems: Sequence[int], digests: bytes) -> array[int] | None:
    """The keys of many conversations of plain text that end with an answer: three numbers a row, as in `row_keys`.

    `texts` has the turns of all rows, `counts` the number of turns of each row, `systems` how many of these are the
    system prompt that the key of the text ignores (`leading_system`). Returns None if an ASCII text has a control
    character other than tab, line feed and carriage return, which is detected at no extra cost.
    """
    turns = _normalize_turns(texts)
    if turns is None:
        return None
    thoughts = None
    if any(turn.startswith(_THINKS) for turn in turns):
        turns, thoughts = map(list, zip(*map(_split_thought, turns), strict=True))
    prompts, complete, start = [], [], 0
    for count, system in zip(counts, systems, strict=True):
        end = start + count
        prompt = bare = _TURN.join(turns[start : end - 1]).rstrip(_STRUCTURE)
        if system:
            bare = _TURN.join(turns[start + system : end - 1]).rstrip(_STRUCTURE)
        prompts.append(prompt)
        complete.append(bare + _TURN + turns[end - 1].rstrip(_STRUCTURE))
        start = end
    keys = array("Q", bytes(ROW_KEYS * len(counts)))
    keys[PROMPT::3] = array("Q", map(xxh3_64_intdigest, prompts))
    keys[TEXT::3] = array("Q", map(xxh3_64_intdigest, complete))
    halves = memoryview(keys).cast("B").cast("I")
    halves[2 * EXACT :: 6] = memoryview(array("I", digests)[::8])
    if thoughts is not None:
        halves[2 * EXACT + 1 :: 6] = memoryview(array("I", _thought_keys(thoughts, counts)))
    halves.release()
    return keys


def _thought_keys(thoughts: Sequence[bytes], counts: Sequence[int]) -> Iterator[int]:
    """For each row, the key of the reasoning in its turns."""
    start = 0
    for count in counts:
        yield _thought_key(_TURN.join(filter(None, thoughts[start : start + count])).rstrip(_STRUCTURE))
        start += count


def _split_thought(turn: bytes) -> tuple[bytes, bytes]:
    """A normalized turn without its leading think block, and the text of that block."""
    end = turn.find(_THOUGHT) if turn.startswith(_THINKS) else -1
    return (turn, b"") if end < 0 else (turn[end + len(_THOUGHT) :], turn[len(_THINKS) : end])


def _normalize_turns(texts: list[str]) -> list[bytes] | None:
    """The texts, normalized; ASCII texts together in one step. None where one of these has a control character."""
    joined, others = TURN.join(texts), []
    if not joined.isascii():
        others = [place for place, text in enumerate(texts) if not text.isascii()]
        plain = texts.copy()
        for place in others:
            plain[place] = ""
        joined = TURN.join(plain)
    together = joined.encode().translate(_LOWER_OR_CONTROL, _IGNORED_BUT_CONTROL)
    turns = together.split(_TURN)
    if _CONTROL in together or len(turns) != len(texts):
        return None
    for place in others:
        turns[place] = normalize(texts[place].encode())
    return turns


def leading_system(roles: Sequence[str]) -> int:
    """How many turns at the start are a system prompt; 0 where nothing else comes before the last answer, because the
    system prompt is then the question.
    """
    count = 0
    while count < len(roles) and roles[count] in _SYSTEM:
        count += 1
    return count if count < _answer_start(roles) else 0


def _answer_start(roles: Sequence[str]) -> int:
    """Where the last answer starts; after the last turn where there is none."""
    return next((place for place in range(len(roles) - 1, -1, -1) if roles[place] == "assistant"), len(roles))


def _row_texts(example: Example) -> tuple[bytes, bytes, bytes, bytes]:
    """The prompt, the prompt without system prompt and tools, the answer and the reasoning; normalized."""
    if isinstance(example, Completion):
        # A text without a prompt conflicts with nothing.
        prompt, _ = _split_thought(_normalize_text(example.prompt))
        answer, thought = _split_thought(_normalize_text(example.completion))
        return (prompt, prompt, answer, thought) if prompt else (answer, answer, b"", thought)
    if isinstance(example, Preference):
        return _pair_texts(example)
    roles = [message.role for message in example.messages]
    cut, system = _answer_start(roles), leading_system(roles)
    texts, thought = _turn_texts(example.messages)
    asked, bare = _TURN.join(texts[:cut]), _TURN.join(texts[system:cut])
    return _with_tools(asked, example.tools), bare, _TURN.join(texts[cut : cut + 1]), thought


def _pair_texts(pair: Preference) -> tuple[bytes, bytes, bytes, bytes]:
    """The texts of a pair. Two pairs conflict when they prefer the same answers in opposite order."""
    system = leading_system([message.role for message in pair.prompt])
    texts, _ = _turn_texts(pair.prompt)
    chosen, rejected = _turn_texts(pair.chosen), _turn_texts(pair.rejected)
    arms = [_TURN.join(texts) for texts, _ in (chosen, rejected)]
    asked, bare = (_TURN.join((*asked, *sorted(arms))) for asked in (texts, texts[system:]))
    thought = _TURN.join(filter(None, (chosen[1], rejected[1])))
    return _with_tools(asked, pair.tools), bare, arms[0], thought


def _with_tools(asked: bytes, tools: tuple[dict[str, Any], ...]) -> bytes:
    return _plain_json(tools) + _TURN + asked if tools else asked


def _turn_texts(messages: Sequence[Message]) -> tuple[list[bytes], bytes]:
    """The text of each turn, and the reasoning in all of them; normalized."""
    texts: list[bytes] = []
    thoughts: list[bytes] = []
    for message in messages:
        text, thought = _split_thought(_normalize_text(message.text))
        if message.tool_calls or type(message.content) is list:
            text += _extras(message)
        if message.reasoning_content:
            thought = _normalize_text(message.reasoning_content)
        texts.append(text)
        if thought:
            thoughts.append(thought)
    return texts, _TURN.join(thoughts)


def _extras(message: Message) -> bytes:
    """A turn's images, and its calls without their ids."""
    found = [
        _plain_json(part)
        for part in (message.content if isinstance(message.content, list) else ())
        if part.get("type") != "text"
    ]
    for call in message.tool_calls or ():
        function = call.get("function") or {}
        found.append(_normalize_text(str(function.get("name"))) + _WITHIN + _arguments(function.get("arguments")))
    return b"".join(_WITHIN + one for one in found)


def _arguments(text: object) -> bytes:
    """The arguments of a call, in one order and notation."""
    try:
        return _plain_json(json.loads(str(text), parse_float=_number))
    except (ValueError, RecursionError):
        return _normalize_text(str(text))


def _number(text: str) -> float | int:
    value = float(text)
    return int(value) if value.is_integer() else value


def _plain_json(value: object) -> bytes:
    return normalize(msgspec.json.encode(value, order="deterministic"))


def _normalize_text(text: str) -> bytes:
    return normalize(text.encode("utf-8", "surrogatepass"))


def normalize(text: bytes) -> bytes:
    """UTF-8 text without case, white space, quotes, `!`, `?` and invisible characters, in Unicode's form NFKC."""
    if not text.isascii():
        folded = unicodedata.normalize("NFKC", text.decode("utf-8", "surrogatepass")).casefold()
        text = folded.encode("utf-8", "surrogatepass")
        if any(start in text for start in _MAY_BE_UNSEEN):
            text = _UNSEEN.sub(b"", text)
    return text.translate(_LOWER, _IGNORED)
