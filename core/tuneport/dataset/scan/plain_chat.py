"""The fast path for the most common rows, plain chat in JSONL: decoded and proven free of findings in bulk."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate, chain, filterfalse
from operator import attrgetter, sub
from typing import Literal, NamedTuple

import msgspec

from tuneport.dataset.check.one_row import LEADS, check_turns
from tuneport.dataset.check.row_keys import leading_system, many_row_keys
from tuneport.dataset.example import Conversation, Message
from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.strict_json import key_count
from tuneport.dataset.scan.part import Part, join_digests
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.shapes.text_values import NO_VALUE
from tuneport.dataset.stats import Tally


class Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message with a role and a text, and nothing else."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


class Chat(msgspec.Struct, forbid_unknown_fields=True, gc=False, tag="conversation", tag_field="shape"):
    """A conversation of such messages; it encodes to the same canonical text as its Conversation."""

    messages: list[Turn]

    def example(self) -> Conversation:
        """The conversation."""
        return Conversation(messages=tuple([Message(role=turn.role, content=turn.content) for turn in self.messages]))


Orders = Counter[tuple[str, ...]]

_decoder = msgspec.json.Decoder(Chat)
_encoder = msgspec.json.Encoder(order="deterministic")
_TAG = len(b'"shape":"conversation",')
_STARTS = (
    b'{"messages": [',
    b'{"messages":[',
    b'{"shape":"conversation","messages":[',
    b'{"shape": "conversation", "messages": [',
)

_TOOL_ANSWER = b"tool_response"  # a user's text may be a tool's answer, which `with_calls_from_text` finds

# Whatever a check of texts may report; a text without these characters has no finding.
_SUSPECT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xadÂÃâð\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffd"
    "\U000e0000-\U000e007f]"
)
_ENTITY = re.compile(rb"(?:&|\\u0026)[#a-zA-Z0-9]+;")
_messages: Callable[[Chat], list[Turn]] = attrgetter("messages")
_content: Callable[[Turn], str] = attrgetter("content")
_clean_orders: dict[tuple[str, ...], bool] = {}


def fits(recipe: Recipe | None) -> bool:
    """Whether rows of a recipe may take this path."""
    if recipe is None or recipe.system:
        return False
    return recipe.shape == "tuneport" or (recipe.shape == "messages" and recipe.columns["messages"] == "messages")


def fold(block: bytes, part: Part) -> bool:
    """Add complete lines to a part and return True, if all of them are plain chat without a finding."""
    if (chats := _read_chats(block)) is None:
        return False
    digests = join_digests(chats.canonical)
    counts = list(map(len, chats.rows))
    keys = many_row_keys(chats.texts, counts, _system_turns(chats), digests)
    if keys is None:
        return False
    rows = len(counts)
    part.add_used(keys, digests, range(part.lines + 1, part.lines + rows + 1), chats.size)
    part.kept += b"\1" * rows
    part.lines += rows
    part.read += rows
    _add_to_tally(part.tally, chats.orders, chats.texts, counts)
    return True


def _system_turns(chats: _Chats) -> list[int]:
    """For each row, the number of turns at its start that are a system prompt, which the text's key ignores."""
    leading = {order: leading_system(order) for order in chats.orders}
    if not any(leading.values()):
        return [0] * len(chats.rows)
    return [leading[tuple([turn.role for turn in turns])] for turns in chats.rows]


def canonical_lines(block: bytes) -> list[bytes] | None:
    """The canonical text of complete lines, if all are plain chat without a finding; else None."""
    chats = _read_chats(block)
    return None if chats is None else chats.canonical


class _Chats(NamedTuple):
    """Rows of plain chat without a finding. `texts` are those of all turns; `size` is that of the canonical lines."""

    rows: list[list[Turn]]
    texts: list[str]
    orders: Orders
    canonical: list[bytes]
    size: int


def _read_chats(block: bytes) -> _Chats | None:
    """Complete lines, if all are plain chat without a finding, except for control characters in ASCII texts."""
    if _TOOL_ANSWER in block or _may_have_entities(block):
        return None
    try:
        chats = _decoder.decode_lines(block)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    rows = list(map(_messages, chats))
    texts = list(map(_content, chain.from_iterable(rows)))
    orders: Orders = Counter([tuple([turn.role for turn in turns]) for turns in rows])
    if not (rows and all(map(_has_no_finding, orders))) or _may_have_finding(texts):
        return None
    canonical = list(map(_encoder.encode, chats))
    size = sum(map(len, canonical)) + len(canonical)
    return _Chats(rows, texts, orders, canonical, size) if _is_complete(block, size, orders) else None


def _is_complete(block: bytes, size: int, orders: Orders) -> bool:
    """Whether each line is one row without repeated keys: decoding would silently keep the last of these.

    No JSON text of these rows is shorter than the canonical one, so a block of that size has nothing else in it. The
    same is true with the spaces that Python's `json` writes (4 a turn) if all of them are where they belong. Otherwise
    the keys are counted.
    """
    rows, turns = orders.total(), sum(len(order) * times for order, times in orders.items())
    if len(block) == size - _TAG * rows + 4 * turns and _has_python_spaces(block, orders):
        return True
    start = next((start for start in _STARTS if block.startswith(start)), None)
    if start is None or _count_lines(start, block) != rows:
        return False
    tagged = b'"shape"' in start
    if len(block) == size - _TAG * rows * (not tagged) and b" " not in start:
        return True
    return block.count(b"\n") == rows and key_count(block) == (1 + tagged) * rows + 2 * turns


def _has_python_spaces(block: bytes, orders: Orders) -> bool:
    """Whether each row and each turn starts as Python's `json` writes it."""
    first: Counter[str] = Counter()
    later: Counter[str] = Counter()
    for order, times in orders.items():
        first[order[0]] += times
        for role in order[1:]:
            later[role] += times
    starts = {role: f'{{"role": "{role}", "content": "'.encode() for role in first | later}
    return all(_count_lines(b'{"messages": [' + starts[role], block) == times for role, times in first.items()) and all(
        block.count(b'"}, ' + starts[role]) == times for role, times in later.items()
    )


def _count_lines(start: bytes, block: bytes) -> int:
    """How many lines start with these bytes."""
    return block.count(b"\n" + start) + block.startswith(start)


def decode_line(raw: bytes) -> tuple[Chat, bytes] | None:
    """One row with its canonical line, or None where it is not plain chat or has a finding."""
    if _TOOL_ANSWER in raw or _may_have_entities(raw):
        return None
    try:
        chat = _decoder.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    texts = [turn.content for turn in chat.messages]
    if (
        not _has_no_finding(tuple([turn.role for turn in chat.messages]))
        or _may_have_finding(texts)
        or any(map(_SUSPECT.search, texts))
    ):
        return None
    line = _encoder.encode(chat)
    turns = len(chat.messages)
    if len(raw) == len(line) - _TAG or raw == line or key_count(raw) == 1 + 2 * turns:
        return chat, line
    return None


def _has_no_finding(roles: tuple[str, ...]) -> bool:
    """Whether an order of roles has no finding; cached, because files have few orders."""
    clean = _clean_orders.get(roles)
    if clean is None:
        report = RowReport(None)
        check_turns(roles, str, report)
        clean = bool(roles) and "tool" not in roles and not report.found
        if len(_clean_orders) < 1 << 12:
            _clean_orders[roles] = clean
    return clean


def _may_have_finding(texts: list[str]) -> bool:
    """Whether any of the texts may have a finding, except for control characters in ASCII texts, which `many_row_keys`
    detects.
    """
    if list(map(str.strip, texts)) != texts or not all(texts) or not NO_VALUE.isdisjoint(texts):
        return True
    others = list(filterfalse(str.isascii, texts))
    return any(map(_SUSPECT.search, others)) or any(map(LEADS.search, others))


def _may_have_entities(lines: bytes) -> bool:
    return (b"&" in lines or b"\\u0026" in lines) and _ENTITY.search(lines) is not None


def _add_to_tally(tally: Tally, orders: Orders, texts: Sequence[str], counts: Sequence[int]) -> None:
    """Count many conversations at once, as `Tally.add` counts each. `texts` are those of all turns."""
    tally.shapes["conversation"] += len(counts)
    for order, times in orders.items():
        tally.turns.add(len(order), times)
        for role in order:
            tally.roles[role] += times
    ends = list(accumulate(counts))
    characters = list(accumulate(map(len, texts)))
    until = [characters[end - 1] for end in ends]
    tally.characters.add_all(map(sub, until, chain((0,), until)))
    if tally.answers is not None:
        tally.count_answers([texts[end - 1] for end in ends])
