"""Numbers that stand for a row: for what is asked, for its whole text, and for its exact content."""

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

ROW_KEYS = 24  # bytes: the prompt's key, the whole text's key, the exact content's
PROMPT, TEXT, EXACT = range(3)
"""The three numbers of a row."""
_KEYS = struct.Struct("=QQ4sI")

_IGNORED = bytes((*range(33), 127)) + b"\"'`!?\\"
_LOWER = bytes(range(256)).lower()
# What nobody sees, or is but another way to write the same, in UTF-8: control characters, soft hyphens, joiners, marks
# of direction, curly quotes, dashes, odd spaces (U+2000 to U+203F), variation selectors, byte order marks, tags.
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
_STRUCTURE = b".,]}"  # what may end a normalised text without meaning anything
TURN = "\1"
"""Stands between the turns of a normalised conversation."""
_TURN = TURN.encode()
_WITHIN = b"\2"  # stands before what a turn holds beside its text: calls and images
_CONTROL = b"\0"
_THINKS, _THOUGHT = b"<think>", b"</think>"
_SYSTEM = frozenset({"system", "developer"})
_LOWER_OR_CONTROL = bytes(
    lower if byte in b"\t\n\r" + _TURN or 32 <= byte != 127 else _CONTROL[0] for byte, lower in enumerate(_LOWER)
)
_IGNORED_BUT_CONTROL = b" \t\n\r\"'`!?\\"


def row_keys(example: Example, digest: bytes) -> bytes:
    """24 bytes that place a row among others: 8 for its prompt, 8 for its whole text, 8 for its exact content, of
    which 4 are for what the assistant thought.

    The key of the text leaves out the system prompt, the tools and what follows the last answer: the same turns are the
    same row under any, so that a row stays in its part of a split and is recognized when these are added. The first two
    keys go by what turns say, not by how that is written: ids of calls, the order of arguments, and texts in parts make
    no difference, nor do case, white space, quotes, `!`, `?`, characters that nobody sees and a full stop at the end.
    Unicode is compared in its compatibility form (NFKC). They leave out thoughts: the same answer after other thoughts
    is the same row to a split. `digest` is the example's content digest.
    """
    prompt, bare, answer, thought = (part.rstrip(_STRUCTURE) for part in _parts(example))
    keys = xxh3_64_intdigest(prompt), xxh3_64_intdigest(bare + _TURN + answer)
    return _KEYS.pack(*keys, digest[:4], _thought_key(thought))


def _thought_key(thought: bytes) -> int:
    return xxh3_64_intdigest(thought) & 0xFFFFFFFF if thought else 0


def text_key(example: Example) -> int:
    """The second of the keys of `row_keys`: of the whole text but for the system prompt."""
    key: int = _KEYS.unpack_from(row_keys(example, b""))[1]
    return key


def many_row_keys(texts: list[str], counts: Sequence[int], systems: Sequence[int], digests: bytes) -> array[int] | None:
    """The keys of many conversations of plain text that end with an answer: three numbers a row, as in `row_keys`.

    `texts` has the turns of all rows, `counts` how many each row has, `systems` how many of these are a system prompt
    that the key of the text leaves out (`leading_system`). None if a text in ASCII holds a control character
    other than tab, line feed and carriage return: that is seen by the way.
    """
    turns = _normalised_turns_of(texts)
    if turns is None:
        return None
    thoughts = None
    if any(turn.startswith(_THINKS) for turn in turns):
        turns, thoughts = map(list, zip(*map(_without_thought, turns), strict=True))
    prompts, wholes, start = [], [], 0
    for count, system in zip(counts, systems, strict=True):
        end = start + count
        prompt = bare = _TURN.join(turns[start : end - 1]).rstrip(_STRUCTURE)
        if system:
            bare = _TURN.join(turns[start + system : end - 1]).rstrip(_STRUCTURE)
        prompts.append(prompt)
        wholes.append(bare + _TURN + turns[end - 1].rstrip(_STRUCTURE))
        start = end
    keys = array("Q", bytes(ROW_KEYS * len(counts)))
    keys[PROMPT::3] = array("Q", map(xxh3_64_intdigest, prompts))
    keys[TEXT::3] = array("Q", map(xxh3_64_intdigest, wholes))
    halves = memoryview(keys).cast("B").cast("I")
    halves[2 * EXACT :: 6] = memoryview(array("I", digests)[::8])
    if thoughts is not None:
        halves[2 * EXACT + 1 :: 6] = memoryview(array("I", _thought_keys(thoughts, counts)))
    halves.release()
    return keys


def _thought_keys(thoughts: Sequence[bytes], counts: Sequence[int]) -> Iterator[int]:
    """Of each row's turns, the key of what was thought in them."""
    start = 0
    for count in counts:
        yield _thought_key(_TURN.join(filter(None, thoughts[start : start + count])).rstrip(_STRUCTURE))
        start += count


def _without_thought(turn: bytes) -> tuple[bytes, bytes]:
    """A normalized turn without the think block that it starts with, and what stands in that."""
    end = turn.find(_THOUGHT) if turn.startswith(_THINKS) else -1
    return (turn, b"") if end < 0 else (turn[end + len(_THOUGHT) :], turn[len(_THINKS) : end])


def _normalised_turns_of(texts: list[str]) -> list[bytes] | None:
    """Each text normalised, those in ASCII all at once; None where a control character stands in one of these."""
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
        turns[place] = normalised(texts[place].encode())
    return turns


def leading_system(roles: Sequence[str]) -> int:
    """How many turns at the start are a system prompt; 0 where no other turn comes before the last answer: then it is
    all that is asked.
    """
    count = 0
    while count < len(roles) and roles[count] in _SYSTEM:
        count += 1
    return count if count < _cut(roles) else 0


def _cut(roles: Sequence[str]) -> int:
    """Where the last answer starts; behind the last turn where there is none."""
    return next((place for place in range(len(roles) - 1, -1, -1) if roles[place] == "assistant"), len(roles))


def _parts(example: Example) -> tuple[bytes, bytes, bytes, bytes]:
    """What is asked, the same without system prompt and tools, what is answered, and what is thought; normalized."""
    if isinstance(example, Completion):
        # Without a prompt the text is all there is, and conflicts with nothing.
        prompt, _ = _without_thought(_normalised_text(example.prompt))
        answer, thought = _without_thought(_normalised_text(example.completion))
        return (prompt, prompt, answer, thought) if prompt else (answer, answer, b"", thought)
    if isinstance(example, Preference):
        return _pair_parts(example)
    roles = [message.role for message in example.messages]
    cut, system = _cut(roles), leading_system(roles)
    texts, thought = _said(example.messages)
    asked, bare = _TURN.join(texts[:cut]), _TURN.join(texts[system:cut])
    return _with_tools(asked, example.tools), bare, _TURN.join(texts[cut : cut + 1]), thought


def _pair_parts(pair: Preference) -> tuple[bytes, bytes, bytes, bytes]:
    """The same of a pair. Two answers conflict when their order is turned round; other pairs for a prompt do not."""
    system = leading_system([message.role for message in pair.prompt])
    texts, _ = _said(pair.prompt)
    chosen, rejected = _said(pair.chosen), _said(pair.rejected)
    arms = [_TURN.join(said) for said, _ in (chosen, rejected)]
    asked, bare = (_TURN.join((*said, *sorted(arms))) for said in (texts, texts[system:]))
    thought = _TURN.join(filter(None, (chosen[1], rejected[1])))
    return _with_tools(asked, pair.tools), bare, arms[0], thought


def _with_tools(asked: bytes, tools: tuple[dict[str, Any], ...]) -> bytes:
    return _plain_json(tools) + _TURN + asked if tools else asked


def _said(messages: Sequence[Message]) -> tuple[list[bytes], bytes]:
    """What each turn says, and what was thought in them; normalized."""
    texts: list[bytes] = []
    thoughts: list[bytes] = []
    for message in messages:
        text, thought = _without_thought(_normalised_text(message.text))
        if message.tool_calls or type(message.content) is list:
            text += _beside_text(message)
        if message.reasoning_content:
            thought = _normalised_text(message.reasoning_content)
        texts.append(text)
        if thought:
            thoughts.append(thought)
    return texts, _TURN.join(thoughts)


def _beside_text(message: Message) -> bytes:
    """What a turn holds beside its text: images, and calls without their ids."""
    found = [
        _plain_json(part)
        for part in (message.content if isinstance(message.content, list) else ())
        if part.get("type") != "text"
    ]
    for call in message.tool_calls or ():
        function = call.get("function") or {}
        found.append(_normalised_text(str(function.get("name"))) + _WITHIN + _arguments(function.get("arguments")))
    return b"".join(_WITHIN + one for one in found)


def _arguments(text: object) -> bytes:
    """The arguments of a call, in one order and spelling."""
    try:
        return _plain_json(json.loads(str(text), parse_float=_number))
    except (ValueError, RecursionError):
        return _normalised_text(str(text))


def _number(text: str) -> float | int:
    value = float(text)
    return int(value) if value.is_integer() else value


def _plain_json(value: object) -> bytes:
    return normalised(msgspec.json.encode(value, order="deterministic"))


def _normalised_text(text: str) -> bytes:
    return normalised(text.encode("utf-8", "surrogatepass"))


def normalised(text: bytes) -> bytes:
    """UTF-8 text without case, white space, quotes, `!`, `?` and what nobody sees, in Unicode's compatibility form."""
    if not text.isascii():
        folded = unicodedata.normalize("NFKC", text.decode("utf-8", "surrogatepass")).casefold()
        text = folded.encode("utf-8", "surrogatepass")
        if any(start in text for start in _MAY_BE_UNSEEN):
            text = _UNSEEN.sub(b"", text)
    return text.translate(_LOWER, _IGNORED)
