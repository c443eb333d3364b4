"""The single pass: every row read, judged, counted and fingerprinted, in memory that does not grow with the rows."""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from tuneport.dataset import chat, readers
from tuneport.dataset.example import Conversation, Example, canonical
from tuneport.dataset.findings import Findings, RowReport
from tuneport.dataset.formats import Recipe, convert
from tuneport.dataset.limits import TooLong, check_limits
from tuneport.dataset.profile import DataProfile
from tuneport.dataset.repeats import ROW_KEYS, Records, row_keys
from tuneport.dataset.rows import check_example
from tuneport.dataset.source import ExpansionError, Source, blocks
from tuneport.dataset.stats import Tally
from tuneport.dataset.strictjson import BAD
from tuneport.home import home

DIGEST = 32
_BATCH_ROWS = 1024
_INDEX_MEMORY = 16 << 20
_PLAIN = Conversation(messages=())


@dataclass(slots=True)
class Outcome:
    """What became of one row: `at` is its line (0: it is no row, only a report), `example` (or, for plain chat, `plain`) with its canonical `line`, or neither."""

    at: int
    report: RowReport | None
    example: Example | None = None
    plain: chat.Chat | None = None
    line: bytes = b""

    def accepted(self) -> Example | None:
        """The example, if the row is taken."""
        return self.plain.example() if self.plain is not None else self.example


@dataclass(slots=True)
class Part:
    """What a pass over some rows in a row found. `keys`, `digests` and `places` have an entry per row used."""

    lines: int = 0
    read: int = 0
    used: int = 0
    bytes: int = 0
    keys: bytearray = field(default_factory=bytearray)
    digests: bytearray = field(default_factory=bytearray)
    places: array[int] = field(default_factory=lambda: array("Q"))
    kept: bytearray = field(default_factory=bytearray)
    findings: Findings = field(default_factory=Findings)
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the rows are held against beyond their own soundness."""

    profile: DataProfile
    method: str
    too_long: TooLong


class Scan:
    """All parts of a source together. `records` and the index live on disk once there are many rows."""

    def __init__(self) -> None:
        self.lines = self.read = self.used = 0
        self.findings = Findings()
        self.tally = Tally()
        self.records = Records()
        self.kept = bytearray()
        """One byte for each row that is sound by itself: 1 if the limits take it too."""
        self._sha = hashlib.sha256()
        self._index = tempfile.SpooledTemporaryFile(max_size=_INDEX_MEMORY, dir=home("cache", "spill"))  # noqa: SIM115 - lives as long as the scan
        self.bytes = 0
        """The size of the used rows as canonical lines."""

    @property
    def rejected(self) -> int:
        """Rows that were read and are not used."""
        return self.read - self.used

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 over the used rows' content digests, in order."""
        return self._sha.hexdigest()

    def add(self, part: Part) -> None:
        """Add what was found in the rows that follow."""
        self.read += part.read
        self.used += part.used
        self.bytes += part.bytes
        self.findings.merge(part.findings, self.lines)
        self.tally.merge(part.tally)
        self._sha.update(part.digests)
        self.kept += part.kept
        for number, place in enumerate(part.places):
            keys = bytes(part.keys[number * ROW_KEYS : (number + 1) * ROW_KEYS])
            self.records.add(keys, place + self.lines)
            self._index.write(keys[8:16] + part.digests[number * DIGEST : (number + 1) * DIGEST])
        self.lines += part.lines

    def index(self) -> Iterator[tuple[int, bytes]]:
        """For each used row, in order, the key of its normalised text and its content digest."""
        self._index.seek(0)
        while block := self._index.read(_BATCH_ROWS * (8 + DIGEST)):
            for start in range(0, len(block), 8 + DIGEST):
                yield int.from_bytes(block[start : start + 8], "little"), block[start + 8 : start + 8 + DIGEST]
        self._index.seek(0, 2)


def scan(source: Source, recipe: Recipe | None, limits: Limits | None = None, keep: bytes | None = None) -> Scan:
    """Read a source from its start to its end. `keep` has a byte for each sound row; those with 0 are passed over."""
    found = Scan()
    selection = Selection(keep)
    for batch, lines in batches(source, recipe):
        found.add(fold(selection.of(batch), lines, limits))
    return found


class Selection:
    """Passes the rows on that a view of a dataset has; without one, all."""

    def __init__(self, keep: bytes | None) -> None:
        self.keep = keep
        self.position = 0

    def of(self, batch: Iterable[Outcome]) -> Iterator[Outcome]:
        """The outcomes that belong to the view."""
        if self.keep is None:
            yield from batch
            return
        for outcome in batch:
            if outcome.plain is not None or outcome.example is not None:
                if self.keep[self.position]:
                    yield outcome
                self.position += 1


def batches(source: Source, recipe: Recipe | None) -> Iterator[tuple[Iterable[Outcome], int]]:
    """A source's rows in batches, each with the number of lines it takes."""
    if source.format != "jsonl" or source.utf16:
        rows = readers.read(source)
        while batch := list(islice(rows, _BATCH_ROWS)):
            yield [_judged(value, report, recipe) for value, report in batch], 0
        return
    with source.open() as stream:
        try:
            yield from _line_batches(stream, recipe)
        except ExpansionError as error:
            report = RowReport(None)
            report.add(error.code, error.message)
            yield [Outcome(0, report)], 0


def _line_batches(stream: Any, recipe: Recipe | None) -> Iterator[tuple[Iterable[Outcome], int]]:
    first = True
    for block, too_long in blocks(stream):
        if too_long:
            yield [Outcome(1, readers.too_large(1, too_long))], 1
        elif first:
            yield from _first_block(block, recipe)
        else:
            lines = readers.split_lines(block)
            yield line_outcomes(lines, recipe), len(lines)
        first = False


def _first_block(block: bytes, recipe: Recipe | None) -> Iterator[tuple[Iterable[Outcome], int]]:
    """The block that may start with a byte order mark, or be no UTF-8 at all."""
    notes = RowReport(1)
    lines = readers.split_lines(block)
    lines[0] = readers.without_bom(lines[0], notes)
    if lines[0].endswith(b"\r"):
        notes.add("crlf", "The first line ends with CR LF.")
    if notes.found:
        yield [Outcome(0, notes)], 0
    yield line_outcomes(lines, recipe), len(lines)


def line_outcomes(lines: list[bytes], recipe: Recipe | None) -> Iterator[Outcome]:
    """What becomes of lines of JSONL, counted from 1."""
    fast = chat.decode_plain(lines) if recipe and chat.takes(recipe) else [None] * len(lines)
    for at, (raw, plain) in enumerate(zip(lines, fast, strict=True), 1):
        if plain is not None:
            yield Outcome(at, None, None, plain[0], plain[1])
            continue
        for value, report in readers.read_line(raw, RowReport(at)):
            yield _judged(value, report, recipe)


def _judged(value: Any, report: RowReport, recipe: Recipe | None) -> Outcome:
    """A row once it is read: converted, and checked by itself."""
    at = report.line or 0
    if value is None and report.found and not report.failed:
        return Outcome(0, report)  # a blank line, or a note on the file: no row
    if value is BAD or report.failed:
        return Outcome(at, report)
    if recipe is None:
        report.add("unknown-shape", _no_recipe(value))
        return Outcome(at, report)
    example = convert(recipe, value, report)
    if example is not None:
        check_example(example, report)
    if report.failed or example is None:
        return Outcome(at, report)
    return Outcome(at, report, example, None, canonical(example))


def _no_recipe(value: Any) -> str:
    if not isinstance(value, dict):
        return "The row is not an object with columns."
    return f"The columns are {', '.join(map(str, value)) or 'none'}; tuneport knows no such shape."


def fold(outcomes: Iterable[Outcome], lines: int, limits: Limits | None = None) -> Part:
    """Outcomes to a part. With limits, those are held against them too."""
    part = Part(lines=lines)
    rows = list(outcomes)
    left_out = _hold_against(rows, limits, part) if limits else frozenset()
    for number, row in enumerate(rows):
        if row.report is not None:
            part.findings.extend(row.report.found)
        if not row.at:
            continue
        part.read += 1
        example = _PLAIN if row.plain is not None else row.example
        if example is None:
            continue
        taken = number not in left_out
        part.kept.append(taken)
        if not taken:
            continue
        part.used += 1
        part.bytes += len(row.line) + 1
        digest = hashlib.sha256(row.line).digest()
        part.digests += digest
        part.places.append(row.at)
        part.keys += row_keys(example, row.line, digest)
        part.tally.add(row.accepted() or example)
    return part


def _hold_against(rows: list[Outcome], limits: Limits, part: Part) -> frozenset[int]:
    """The places in `rows` of those that the limits refuse; why goes into the rows' reports."""
    sound = [(number, example) for number, row in enumerate(rows) if (example := row.accepted()) is not None]
    count = limits.profile.count_tokens
    tokens = count([example for _, example in sound]) if count and sound else [None] * len(sound)
    refused = set()
    for (number, example), size in zip(sound, tokens, strict=True):
        row = rows[number]
        row.report = row.report or RowReport(row.at)
        if check_limits(example, size, limits.profile, limits.method, limits.too_long, row.report) or row.report.failed:
            refused.add(number)
        elif size is not None:
            part.tally.tokens.add(size)
    return frozenset(refused)
