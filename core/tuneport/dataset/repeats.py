"""Rows that say the same thing twice: duplicates, near-duplicates, conflicting answers and leaks, in bounded memory."""

from __future__ import annotations

import re
import struct
import sys
import tempfile
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Literal

import msgspec
from xxhash import xxh3_64_intdigest

from tuneport.dataset.example import Completion, Conversation, Example, Message, Preference, canonical
from tuneport.homefolder import home

RepeatKind = Literal["duplicate", "near-duplicate", "conflict", "leaked-row", "leaked-prompt"]

ROW_KEYS = 24  # bytes: the prompt's key, the whole text's key, the exact content's
_KEYS = struct.Struct("=QQ4sI")
_HALVES = struct.Struct("=4sI")
_RECORD = ROW_KEYS + 8  # and its place
_MEMORY_ROWS = 1 << 18  # 8 MiB of records stay in memory; beyond, they go to disk by partition
_PARTITIONS = 64
_PASS_ROWS = 1 << 17
_PROMPT, _TEXT, _EXACT, _AT = range(4)  # the four numbers of a record

Passes = Callable[[], Iterator["array[int]"]]

_IGNORED = b" \t\n\r\f\v\"'`!?\\"
_LOWER = bytes(range(256)).lower()
_ESCAPED_SPACE = re.compile(rb"\\[nrtf]")
_GENERAL_PUNCTUATION = re.compile(rb"\xe2\x80[\x80-\xbf]")  # U+2000 to U+203F: curly quotes, dashes, odd spaces
_STRUCTURE = b".,]}"  # what may end a normalised text without meaning anything
TURN = "\1"
"""Stands between the turns of a normalised conversation."""
_TURN = TURN.encode()
_CONTROL = b"\0"
_THINKS, _THOUGHT = b"<think>", b"</think>"
_THINK_BLOCK = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
_SYSTEM = frozenset({"system", "developer"})
_LOWER_OR_CONTROL = bytes(
    lower if byte in b"\t\n\r" + _TURN or 32 <= byte != 127 else _CONTROL[0] for byte, lower in enumerate(_LOWER)
)
_IGNORED_BUT_CONTROL = _IGNORED.translate(None, b"\f\v")


@dataclass(frozen=True, slots=True)
class Repeat:
    """The row at `place` repeats the one at `first` (a place in the other dataset for the two kinds of leak)."""

    kind: RepeatKind
    place: int
    first: int


def row_keys(example: Example, digest: bytes) -> bytes:
    """24 bytes that place a row among others: 8 for its prompt, 8 for its whole text, 8 for its exact content, of
    which 4 are for what the assistant thought.

    The key of the text leaves out the system prompt: the same turns are the same row under any, so that a row stays in
    its part of a split and is recognized when a system prompt is added. The first two keys ignore case, white space,
    quotes, `!`, `?` and a full stop at the end; Unicode is compared in its compatibility form (NFKC). They leave out
    thoughts: the same answer after other thoughts is the same row to a split. `digest` is the example's content digest.
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
    keys[_PROMPT::3] = array("Q", map(xxh3_64_intdigest, prompts))
    keys[_TEXT::3] = array("Q", map(xxh3_64_intdigest, wholes))
    halves = memoryview(keys).cast("B").cast("I")
    halves[2 * _EXACT :: 6] = memoryview(array("I", digests)[::8])
    if thoughts is not None:
        halves[2 * _EXACT + 1 :: 6] = memoryview(array("I", _thought_keys(thoughts, counts)))
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
    """What is asked, the same without the system prompt, what is answered, and what is thought; normalized."""
    if isinstance(example, Completion):
        # Without a prompt the text is all there is, and conflicts with nothing.
        prompt, answer = normalised(example.prompt.encode()), normalised(example.completion.encode())
        return (prompt, prompt, answer, b"") if prompt else (answer, answer, b"", b"")
    if isinstance(example, Preference):
        # The same two answers conflict when their order is turned round; other pairs for a prompt do not.
        arms = [_normalised_turns(arm) for arm in (example.chosen, example.rejected)]
        system = leading_system([message.role for message in example.prompt])
        pair = b"".join(sorted(arms))
        asked = _normalised_turns(example.prompt, example.tools)
        bare = _normalised_turns(example.prompt[system:], example.tools) if system else asked
        return asked + pair, bare + pair, arms[0], b""
    roles = [message.role for message in example.messages]
    cut, system = _cut(roles), leading_system(roles)
    if not example.tools and all(type(one.content) is str and not one.tool_calls for one in example.messages):
        pairs = [_without_thought(_normalised_text(message.text)) for message in example.messages]
        texts = [text for text, _ in pairs]
        thoughts = [
            _thought_of(message) or thought for message, (_, thought) in zip(example.messages, pairs, strict=True)
        ]
        thought = _TURN.join(filter(None, thoughts))
        return _TURN.join(texts[:cut]), _TURN.join(texts[system:cut]), _TURN.join(texts[cut:]), thought
    apart = [_apart(message) for message in example.messages]
    messages, thought = tuple([one for one, _ in apart]), _TURN.join([one for _, one in apart if one])
    asked = _normalised_turns(messages[:cut], example.tools)
    bare = _normalised_turns(messages[system:cut], example.tools) if system else asked
    return asked, bare, _normalised_turns(messages[cut:]), thought


def _apart(message: Message) -> tuple[Message, bytes]:
    """A turn without what was thought, and that, normalized."""
    content, thought = message.content, _thought_of(message)
    if isinstance(content, str) and (block := _THINK_BLOCK.match(content)):
        content, thought = content[block.end() :], thought or _normalised_text(block[1])
    if not thought:
        return message, b""
    return msgspec.structs.replace(message, content=content, reasoning_content=None), thought


def _thought_of(message: Message) -> bytes:
    return _normalised_text(message.reasoning_content) if message.reasoning_content else b""


def _normalised_text(text: str) -> bytes:
    return normalised(text.encode("utf-8", "surrogatepass"))


def _normalised_turns(messages: tuple[Message, ...], tools: tuple[dict[str, Any], ...] = ()) -> bytes:
    line = canonical(Conversation(messages=messages, tools=tools))
    return normalised(_ESCAPED_SPACE.sub(b"", line))


def normalised(text: bytes) -> bytes:
    """UTF-8 text without case, white space, quotes, `!` and `?`, in Unicode's compatibility form."""
    if not text.isascii():
        folded = unicodedata.normalize("NFKC", text.decode("utf-8", "surrogatepass")).casefold()
        text = _GENERAL_PUNCTUATION.sub(b"", folded.encode("utf-8", "surrogatepass"))
    return text.translate(_LOWER, _IGNORED)


class Records:
    """The keys of every row and its place (any number below 2**64, such as its line); 32 bytes each, on disk when many.

    Files lie unlinked in home's cache, so that even a killed process leaves none behind. Use it in a `with` statement.
    """

    def __init__(self, *, memory_rows: int = _MEMORY_ROWS, pass_rows: int = _PASS_ROWS) -> None:
        """`memory_rows` are kept before all go to disk; `pass_rows` are read from there at a time."""
        self._memory_rows, self._pass_rows = memory_rows, pass_rows
        self.rows = 0
        self._batch = array("Q")  # four numbers a record
        self._file: BinaryIO | None = None
        self._extents: list[list[tuple[int, int]]] = [[] for _ in range(2 * _PARTITIONS)]

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory and the disk back."""
        self._batch = array("Q")
        if self._file is not None:
            self._file.close()

    def add(self, keys: bytes, place: int) -> None:
        """Note a row; `keys` are those of `row_keys`."""
        self.add_many(array("Q", keys), array("Q", (place,)))

    def add_many(self, keys: array[int], places: array[int]) -> None:
        """Note many rows: `keys` has three numbers a row."""
        records = array("Q", bytes(_RECORD * len(places)))
        for column in (_PROMPT, _TEXT, _EXACT):
            records[column::4] = keys[column::3]
        records[_AT::4] = places
        self._batch += records
        self.rows += len(places)
        if len(self._batch) >= 4 * self._memory_rows:
            self.spill()

    def by_text(self) -> Iterator[Passes]:
        """Partitions in which rows of the same text come together; each can be read several times, in order."""
        return self._partitions(0)

    def by_prompt(self) -> Iterator[Passes]:
        """The same, where rows of the same prompt come together."""
        return self._partitions(_PARTITIONS)

    @property
    def spilled(self) -> bool:
        """Whether the records are on disk."""
        return self._file is not None

    def spill(self) -> None:
        """Move the records to disk. Two sets are partitioned alike when both are there."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=home("cache", "spill"))  # noqa: SIM115 - closed by close()
        self._file.seek(0, 2)
        parts = [bytearray() for _ in range(2 * _PARTITIONS)]
        batch = self._batch.tobytes()
        for start in range(0, len(batch), _RECORD):
            record = batch[start : start + _RECORD]
            parts[record[8] % _PARTITIONS] += record
            parts[_PARTITIONS + record[0] % _PARTITIONS] += record
        for extents, part in zip(self._extents, parts, strict=True):
            if part:
                extents.append((self._file.tell(), len(part)))
                self._file.write(part)
        self._batch = array("Q")

    def _partitions(self, base: int) -> Iterator[Passes]:
        if self._file is None:
            yield lambda: iter((self._batch,))
            return
        self.spill()
        for extents in self._extents[base : base + _PARTITIONS]:
            yield partial(self._passes, self._file, extents)

    def _passes(self, file: BinaryIO, extents: list[tuple[int, int]]) -> Iterator[array[int]]:
        # Never many records at once, even where every row has the same prompt and so the same partition.
        for offset, size in extents:
            for start in range(0, size, self._pass_rows * _RECORD):
                file.seek(offset + start)
                yield array("Q", file.read(min(self._pass_rows * _RECORD, size - start)))


def find_repeats(records: Records) -> Iterator[Repeat]:
    """Each row that repeats the first of its kind: its content, its prompt and normalised text, or its prompt with
    another answer.

    A row can repeat one row and conflict with another. The order is that of the partitions.
    """
    some = False
    for passes in records.by_prompt():
        prompts = _repeated(passes, _PROMPT)
        some = some or bool(prompts)
        yield from _same_prompt(passes, prompts)
    if some:  # else no text can be there twice
        for passes in records.by_text():
            yield from _same_text(passes)


def find_leaks(train: Records, held_out: Records) -> Iterator[Repeat]:
    """Each row of `train` whose text, or else whose prompt, stands in `held_out` too."""
    if train.spilled or held_out.spilled:
        train.spill()
        held_out.spill()
    for ours, theirs in zip(train.by_text(), held_out.by_text(), strict=True):
        yield from _shared(ours, theirs)
    for ours, theirs in zip(train.by_prompt(), held_out.by_prompt(), strict=True):
        yield from _shared_prompt(ours, theirs)


def _repeated(passes: Passes, column: int) -> set[int]:
    """The keys that stand in more than one record: most data has few, so only these cost Python a loop."""
    seen: set[int] = set()
    repeated: set[int] = set()
    for records in passes():
        keys = records[column::4]
        distinct = set(keys)
        if len(distinct) < len(keys):
            repeated.update(key for key, times in Counter(keys).items() if times > 1)
        repeated |= seen & distinct
        seen = seen | distinct if seen else distinct
    return repeated


def _records(passes: Passes, column: int, keys: set[int]) -> Iterator[array[int]]:
    """The records whose key is among `keys`, in order."""
    if not keys:
        return
    for records in passes():
        for index, key in enumerate(records[column::4]):
            if key in keys:
                yield records[4 * index : 4 * index + 4]


def _same_text(passes: Passes) -> Iterator[Repeat]:
    first_of_text: dict[tuple[int, int, int], int] = {}
    first_of_content: dict[tuple[int, int, int], int] = {}
    for prompt, text, exact, place in _records(passes, _TEXT, _repeated(passes, _TEXT)):
        first = first_of_content.setdefault((prompt, text, exact), place)
        if first != place:
            yield Repeat("duplicate", place, first)
            continue
        _, thought = _HALVES.unpack(exact.to_bytes(8, sys.byteorder))
        first = first_of_text.setdefault((prompt, text, thought), place)
        if first != place:
            yield Repeat("near-duplicate", place, first)


def _same_prompt(passes: Passes, prompts: set[int]) -> Iterator[Repeat]:
    first_answer: dict[int, tuple[int, int]] = {}
    for prompt, text, _, place in _records(passes, _PROMPT, prompts):
        first_text, first = first_answer.setdefault(prompt, (text, place))
        if text != first_text:
            yield Repeat("conflict", place, first)


def _shared(ours: Passes, theirs: Passes) -> Iterator[Repeat]:
    shared = _common(ours, theirs, _TEXT)
    places: dict[int, int] = {}
    for _, text, _, place in _records(theirs, _TEXT, shared):
        places.setdefault(text, place)
    for _, text, _, place in _records(ours, _TEXT, shared):
        yield Repeat("leaked-row", place, places[text])


def _shared_prompt(ours: Passes, theirs: Passes) -> Iterator[Repeat]:
    shared = _common(ours, theirs, _PROMPT)
    places: dict[int, int] = {}
    texts: set[int] = set()  # the rows that are shared whole are leaks of the other kind
    for prompt, text, _, place in _records(theirs, _PROMPT, shared):
        places.setdefault(prompt, place)
        texts.add(text)
    for prompt, text, _, place in _records(ours, _PROMPT, shared):
        if text not in texts:
            yield Repeat("leaked-prompt", place, places[prompt])


def _common(ours: Passes, theirs: Passes, column: int) -> set[int]:
    wanted: set[int] = set()
    for records in theirs():
        wanted.update(records[column::4])
    found: set[int] = set()
    for records in ours():
        found.update(wanted.intersection(records[column::4]))
    return found
