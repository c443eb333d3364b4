"""The short way for the commonest rows: plain chat, one JSON object a line, decoded and proven sound in bulk."""

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
from tuneport.dataset.findings.findings import RowReport
from tuneport.dataset.read.strict_json import key_count
from tuneport.dataset.scan.part import Part, digests_of
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.shapes.text_values import NO_VALUE
from tuneport.dataset.stats import Tally


class Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message of a role and a text, and nothing else."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


class Chat(msgspec.Struct, forbid_unknown_fields=True, gc=False, tag="conversation", tag_field="shape"):
    """A conversation of such messages; it encodes to the same canonical text as the Conversation it stands for."""

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

_TOOL_ANSWER = b"tool_response"  # a user's text may hold a tool's answer, which `with_calls_of_text` finds

# Whatever a check of text may find; a text in which nothing of this stands has no finding.
_SUSPECT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xadÂÃâð\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffd"
    "\U000e0000-\U000e007f]"
)
_ENTITY = re.compile(rb"(?:&|\\u0026)[#a-zA-Z0-9]+;")
_messages: Callable[[Chat], list[Turn]] = attrgetter("messages")
_content: Callable[[Turn], str] = attrgetter("content")
_quiet_orders: dict[tuple[str, ...], bool] = {}


def takes(recipe: Recipe | None) -> bool:
    """Whether the rows of a recipe may go this way."""
    if recipe is None or recipe.system:
        return False
    return recipe.shape == "tuneport" or (recipe.shape == "messages" and recipe.columns["messages"] == "messages")


def fold(block: bytes, part: Part) -> bool:
    """Add what whole lines hold to a part, if all of them are plain chat that is sound and gives rise to no finding."""
    if (chats := _read(block)) is None:
        return False
    digests = digests_of(chats.canonical)
    counts = list(map(len, chats.rows))
    keys = many_row_keys(chats.texts, counts, _systems(chats), digests)
    if keys is None:
        return False
    rows = len(counts)
    part.keys += keys
    part.digests += digests
    part.places.extend(range(part.lines + 1, part.lines + rows + 1))
    part.kept += b"\1" * rows
    part.lines += rows
    part.read += rows
    part.used += rows
    part.size += chats.size
    _count(part.tally, chats.orders, chats.texts, counts)
    return True


def _systems(chats: _Chats) -> list[int]:
    """For each row how many turns at its start are a system prompt that its text's key leaves out."""
    leading = {order: leading_system(order) for order in chats.orders}
    if not any(leading.values()):
        return [0] * len(chats.rows)
    return [leading[tuple([turn.role for turn in turns])] for turns in chats.rows]


def canonical_lines(block: bytes) -> list[bytes] | None:
    """The canonical text of whole lines, if all are plain chat that is sound; None does not say that none is."""
    chats = _read(block)
    return None if chats is None else chats.canonical


class _Chats(NamedTuple):
    """Sound rows of plain chat. `texts` are those of all turns; `size` is that of the canonical lines."""

    rows: list[list[Turn]]
    texts: list[str]
    orders: Orders
    canonical: list[bytes]
    size: int


def _read(block: bytes) -> _Chats | None:
    """Whole lines, if all are plain chat without a finding; control characters in ASCII are not looked for yet."""
    if _TOOL_ANSWER in block or _may_hold_entities(block):
        return None
    try:
        chats = _decoder.decode_lines(block)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    rows = list(map(_messages, chats))
    texts = list(map(_content, chain.from_iterable(rows)))
    orders: Orders = Counter([tuple([turn.role for turn in turns]) for turns in rows])
    if not (rows and all(map(_quiet, orders))) or _odd(texts):
        return None
    canonical = list(map(_encoder.encode, chats))
    size = sum(map(len, canonical)) + len(canonical)
    return _Chats(rows, texts, orders, canonical, size) if _sound(block, size, orders) else None


def _sound(block: bytes, size: int, orders: Orders) -> bool:
    """Whether the lines are rows, and no key stands twice in any: decoding would have kept the last one in silence.

    No JSON text of these rows is shorter than the canonical one, so if the block has that size nothing was left out.
    The same holds with the spaces that Python's `json` writes (4 a turn), once so many are seen where they belong.
    Where neither is so, keys are counted.
    """
    rows, turns = orders.total(), sum(len(order) * times for order, times in orders.items())
    if len(block) == size - _TAG * rows + 4 * turns and _spaced(block, orders):
        return True
    start = next((start for start in _STARTS if block.startswith(start)), None)
    if start is None or _lines_with(start, block) != rows:
        return False
    tagged = b'"shape"' in start
    if len(block) == size - _TAG * rows * (not tagged) and b" " not in start:
        return True
    return block.count(b"\n") == rows and key_count(block) == (1 + tagged) * rows + 2 * turns


def _spaced(block: bytes, orders: Orders) -> bool:
    """Whether each row and each turn begins as Python's `json` writes it."""
    first: Counter[str] = Counter()
    later: Counter[str] = Counter()
    for order, times in orders.items():
        first[order[0]] += times
        for role in order[1:]:
            later[role] += times
    begins = {role: f'{{"role": "{role}", "content": "'.encode() for role in first | later}
    return all(_lines_with(b'{"messages": [' + begins[role], block) == times for role, times in first.items()) and all(
        block.count(b'"}, ' + begins[role]) == times for role, times in later.items()
    )


def _lines_with(start: bytes, block: bytes) -> int:
    """How many lines begin so."""
    return block.count(b"\n" + start) + block.startswith(start)


def decode_line(raw: bytes) -> tuple[Chat, bytes] | None:
    """One row with its canonical line, or None where it is not plain, not sound, or gives rise to a finding."""
    if _TOOL_ANSWER in raw or _may_hold_entities(raw):
        return None
    try:
        chat = _decoder.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    texts = [turn.content for turn in chat.messages]
    if not _quiet(tuple([turn.role for turn in chat.messages])) or _odd(texts) or any(map(_SUSPECT.search, texts)):
        return None
    line = _encoder.encode(chat)
    turns = len(chat.messages)
    if len(raw) == len(line) - _TAG or raw == line or key_count(raw) == 1 + 2 * turns:
        return chat, line
    return None


def _quiet(roles: tuple[str, ...]) -> bool:
    """Whether an order of roles gives rise to no finding; remembered, since files have few orders."""
    quiet = _quiet_orders.get(roles)
    if quiet is None:
        report = RowReport(None)
        check_turns(roles, str, report)
        quiet = bool(roles) and "tool" not in roles and not report.found
        if len(_quiet_orders) < 1 << 12:
            _quiet_orders[roles] = quiet
    return quiet


def _odd(texts: list[str]) -> bool:
    """Whether any of the texts may give rise to a finding, but for what `many_row_keys` sees by the way: control
    characters in ASCII.
    """
    if list(map(str.strip, texts)) != texts or not all(texts) or not NO_VALUE.isdisjoint(texts):
        return True
    others = list(filterfalse(str.isascii, texts))
    return any(map(_SUSPECT.search, others)) or any(map(LEADS.search, others))


def _may_hold_entities(lines: bytes) -> bool:
    return (b"&" in lines or b"\\u0026" in lines) and _ENTITY.search(lines) is not None


def _count(tally: Tally, orders: Orders, texts: Sequence[str], counts: Sequence[int]) -> None:
    """Count many conversations at once, as `Tally.add` counts each; the texts are those of all turns."""
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
