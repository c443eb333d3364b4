"""The short way for the commonest rows: plain chat, one JSON object a line, decoded and proven sound in bulk."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Literal

import msgspec

from tuneport.dataset.example import Conversation, Message
from tuneport.dataset.findings import RowReport
from tuneport.dataset.formats import Recipe
from tuneport.dataset.rows import check_turns
from tuneport.dataset.stats import Tally
from tuneport.dataset.strictjson import key_count


class Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message of a role and a text, and nothing else."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


class Chat(msgspec.Struct, forbid_unknown_fields=True, gc=False, tag="conversation", tag_field="shape"):
    """A conversation of such messages; it encodes to the same canonical text as the Conversation it stands for."""

    messages: list[Turn]
    tools: ClassVar[tuple[()]] = ()

    def example(self) -> Conversation:
        """The conversation."""
        return Conversation(messages=tuple([Message(role=turn.role, content=turn.content) for turn in self.messages]))


Plain = tuple[Chat, bytes]
"""A row and its canonical text."""

_decode = msgspec.json.Decoder(Chat).decode
_encode = msgspec.json.Encoder(order="deterministic").encode
_format = msgspec.json.format
_TAG = len(b'"shape":"conversation",')
_LAST_ANSWER = b'{"role":"assistant"'

# Whatever a check of text may find; a text in which nothing of this stands has no finding.
_ODD = "".join(map(chr, (*range(9), 11, 12, *range(14, 32), *range(127, 160)))) + "ÂÃâð\ufffd\u2028\u2029"
_ODD_ASCII = [character for character in _ODD if character.isascii()]
_SUSPECT = re.compile(rf"[{re.escape(_ODD)}]|\A\s|\s\Z|\A\Z")
_quiet_orders: dict[tuple[str, ...], bool] = {}


def takes(recipe: Recipe) -> bool:
    """Whether the rows of a recipe may go this way."""
    plain = recipe.shape == "messages" and recipe.columns["messages"] == "messages"
    return not recipe.system and (plain or recipe.shape == "tuneport")


def decode_plain(lines: Sequence[bytes]) -> list[Plain | None]:
    """For each line its conversation, or None where the long way must look: not plain, not sound, or with findings."""
    rows = [_decode_line(raw) for raw in lines]
    contents = [turn.content for row in rows if row for turn in row[0].messages]
    if contents and _odd(contents):
        return [
            row if row and not any(_SUSPECT.search(turn.content) for turn in row[0].messages) else None for row in rows
        ]
    return rows


def _decode_line(raw: bytes) -> Plain | None:
    try:
        chat = _decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    line = _encode(chat)
    messages = chat.messages
    if not (_sound(raw, line, len(messages)) and _quiet(tuple([turn.role for turn in messages]))):
        return None
    return chat, line


def _sound(raw: bytes, line: bytes, turns: int) -> bool:
    """Whether no key stands twice in the row: decoding would have kept the last one in silence.

    No JSON text is shorter than the canonical one, so equal lengths prove it; next best is to be what Python's `json`
    would have written. What is left is counted.
    """
    more = len(raw) - len(line) + _TAG
    if not more:
        return True
    if more == 4 * turns and _format(line, indent=0).endswith(raw[1:]):
        return True
    return raw == line or key_count(raw) == 1 + 2 * turns


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


def _odd(contents: list[str]) -> bool:
    """Whether any of the texts may give rise to a finding; quick, because almost none does."""
    if [text.strip() for text in contents] != contents or not all(contents):
        return True
    joined = "".join(contents)
    return any(character in joined for character in (_ODD_ASCII if joined.isascii() else _ODD))


def question_and_answer(line: bytes) -> tuple[bytes, bytes]:
    """A canonical line in two: what comes before the last answer, and that answer."""
    cut = line.rfind(_LAST_ANSWER)  # inside a text its quotes would be escaped
    return line[:cut], line[cut:]


def tally_plain(tally: Tally, chats: Sequence[Chat]) -> None:
    """Count many conversations at once, as `Tally.add` counts one."""
    tally.shapes["conversation"] += len(chats)
    tally.roles.update(Counter([turn.role for chat in chats for turn in chat.messages]))
    tally.turns.add_all([len(chat.messages) for chat in chats])
    tally.characters.add_all([sum([len(turn.content) for turn in chat.messages]) for chat in chats])
    if tally.answers is not None:
        tally.count_answers([chat.messages[-1].content for chat in chats])
