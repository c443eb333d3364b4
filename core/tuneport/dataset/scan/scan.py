"""The single pass: every row read, judged, counted and fingerprinted, in memory that does not grow with the rows."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any, BinaryIO

from tuneport.dataset.check.limits import TooLong, check_limits
from tuneport.dataset.check.one_row import check_example
from tuneport.dataset.check.repeats import Records
from tuneport.dataset.check.row_keys import row_keys
from tuneport.dataset.example import Example, canonical
from tuneport.dataset.findings.findings import Findings, RowReport
from tuneport.dataset.read import readers
from tuneport.dataset.read.lines import line_too_large, read_line, split_lines, without_bom
from tuneport.dataset.read.source import ExpansionError, Source, blocks
from tuneport.dataset.read.strict_json import BAD
from tuneport.dataset.read.values import example_of
from tuneport.dataset.rules import DataRules
from tuneport.dataset.scan import plain_chat as chat
from tuneport.dataset.scan.part import DIGEST, Part, digests_of
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.shapes.suggest import BY_ROW, by_column, proposal
from tuneport.dataset.stats import Tally
from tuneport.homefolder import home

_BATCH_ROWS = 1024
_AT_ONCE = (
    1 << 16
)  # bytes of lines that are gone through together: with what is made of them they fit a processor's cache
_INDEX_MEMORY = 8 << 20  # for each of two


@dataclass(slots=True)
class Outcome:
    """What became of one row: `at` is its line (0: it is no row, only a report).

    A row that is taken has an `example`, or for plain chat `plain`, and its canonical `line`.
    """

    at: int
    report: RowReport | None
    example: Example | None = None
    plain: chat.Chat | None = None
    line: bytes = b""

    def accepted(self) -> Example | None:
        """The example, if the row is taken."""
        return self.plain.example() if self.plain is not None else self.example


@dataclass(frozen=True, slots=True)
class Limits:
    """What the rows are held against beyond their own soundness."""

    rules: DataRules
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
        self._sha = sha256()
        self._texts, self._digests = _spool(), _spool()
        self.size = 0
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
        self.size += part.size
        self.findings.merge(part.findings, self.lines)
        self.tally.merge(part.tally)
        self._sha.update(part.digests)
        self.kept += part.kept
        self.records.add_many(part.keys, array("Q", [place + self.lines for place in part.places]))
        self._texts.write(part.keys[1::3])
        self._digests.write(part.digests)
        self.lines += part.lines

    def text_keys(self) -> array[int]:
        """For each used row, in order, the key of its normalised text."""
        self._texts.seek(0)
        return array("Q", self._texts.read())

    def index(self) -> Iterator[tuple[int, bytes]]:
        """For each used row, in order, the key of its normalised text and its content digest."""
        self._texts.seek(0)
        self._digests.seek(0)
        while texts := self._texts.read(_BATCH_ROWS * 8):
            digests = self._digests.read(len(texts) // 8 * DIGEST)
            for place, text in enumerate(array("Q", texts)):
                yield text, digests[place * DIGEST : (place + 1) * DIGEST]


def _spool() -> tempfile.SpooledTemporaryFile[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=_INDEX_MEMORY, dir=str(home("cache", "spill")))


def scan(
    source: Source,
    recipe: Recipe | None,
    limits: Limits | None = None,
    keep: bytes | None = None,
) -> Scan:
    """Read a source from its start to its end. `keep` has a byte for each sound row; those with 0 are passed over."""
    found = Scan()
    selection = Selection(keep)
    in_bulk = limits is None and keep is None
    for batch in batches(source, recipe):
        found.add(batch.part() if in_bulk else fold(selection.of(batch), batch.lines, limits))
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


class Batch:
    """Some rows that follow each other, to go through one by one."""

    def __init__(self, rows: Iterable[Outcome], lines: int = 0) -> None:
        self._rows = rows
        self._lines = lines

    @property
    def lines(self) -> int:
        """How many lines the rows take; 0 where rows know their line themselves."""
        return self._lines

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self._rows)

    def part(self) -> Part:
        """What the rows hold all together."""
        return fold(self, self.lines)

    def canonical(self) -> Iterator[bytes]:
        """The canonical lines of the rows that are sound."""
        return (outcome.line for outcome in self if outcome.line)


class Lines(Batch):
    """Whole lines of JSONL."""

    def __init__(self, block: bytes, recipe: Recipe | None) -> None:
        self._plain = chat.takes(recipe)
        self._recipe = recipe
        if self._plain and b"\r" in block:
            block = block.replace(b"\r\n", b"\n")  # outside of texts it is white space, inside it cannot stand
        self._block = block if block.endswith(b"\n") else block + b"\n"
        super().__init__(())

    @property
    def lines(self) -> int:
        """How many there are."""
        return self._block.count(b"\n")

    def part(self) -> Part:
        """What the lines hold: by the short way wherever it leads."""
        part = Part()
        for some in _cut(self._block):  # few rows at a time: what is made of tiny ones takes many times their bytes
            if not (self._plain and chat.fold(some, part)):
                part.extend(fold(self._outcomes(some), some.count(b"\n")))
        return part

    def canonical(self) -> Iterator[bytes]:
        """The canonical lines of the rows that are sound, likewise."""
        for some in _cut(self._block):
            lines = chat.canonical_lines(some) if self._plain else None
            yield from lines or (outcome.line for outcome in self._outcomes(some) if outcome.line)

    def __iter__(self) -> Iterator[Outcome]:
        return self._outcomes(self._block)

    def _outcomes(self, block: bytes) -> Iterator[Outcome]:
        for at, raw in enumerate(split_lines(block), 1):
            plain = chat.decode_line(raw) if self._plain else None
            if plain is not None:
                yield Outcome(at, None, None, plain[0], plain[1])
                continue
            for value, report in read_line(raw, RowReport(at)):
                yield _judged(value, report, self._recipe)


def _cut(block: bytes) -> Iterator[bytes]:
    """Whole lines, about _AT_ONCE bytes at a time."""
    start = 0
    while start < len(block):
        end = block.find(b"\n", start + _AT_ONCE) + 1 or len(block)
        yield block[start:end]
        start = end


def batches(source: Source, recipe: Recipe | None) -> Iterator[Batch]:
    """A source's rows, batch by batch."""
    if source.format != "jsonl" or source.problem is not None:
        rows = readers.read(source)
        while batch := list(islice(rows, _BATCH_ROWS)):
            yield Batch([_judged(value, report, recipe) for value, report in batch])
        return
    yield notes(source, recipe)
    with source.open() as stream:
        try:
            yield from _line_batches(stream, recipe)
            source.verify(stream)
        except ExpansionError as error:
            report = RowReport(None)
            report.add(error.code, error.message)
            yield Batch([Outcome(0, report)])


def notes(source: Source, recipe: Recipe | None) -> Batch:
    """What is to be said of the file before any row is read."""
    return Batch([_judged(value, report, recipe) for value, report in readers.said(source)])


def _line_batches(stream: BinaryIO, recipe: Recipe | None) -> Iterator[Batch]:
    for number, (block, too_long) in enumerate(blocks(stream)):
        if too_long:
            yield too_large(too_long)
        elif number == 0:
            yield from first_lines(block, recipe)
        else:
            yield Lines(block, recipe)


def first_lines(block: bytes, recipe: Recipe | None) -> Iterator[Batch]:
    """The lines that a file starts with, and what is to be noted about how it starts."""
    notes = RowReport(1)
    rest = without_bom(block, notes)
    yield Batch([Outcome(0, notes)])
    if rest:
        yield Lines(rest, recipe)


def too_large(size: int) -> Batch:
    """A line beyond the bound, which nobody has read."""
    return Batch([Outcome(1, line_too_large(1, size))], 1)


def _judged(value: Any, report: RowReport, recipe: Recipe | None) -> Outcome:
    """A row once it is read: converted, and checked by itself."""
    at = report.line or 0
    if value is None:  # a blank line, or a note on the file, which may be about a column
        used = (None, *(recipe.columns.values() if recipe else ()))
        report.found = [one for one in report.found if one.code != "read-as-text" or one.pointer in used]
        return Outcome(0, report)
    if value is BAD or report.failed:
        return Outcome(at, report)
    if recipe is None:
        report.add("unknown-shape", _no_recipe(value), None, proposal(value))
        return Outcome(at, report)
    example = example_of(recipe, value, report)
    if example is not None:
        check_example(example, report)
    if report.failed and by_column(value):
        report.found.clear()
        report.add("not-an-object", "The file holds a table column by column, not rows.", None, BY_ROW)
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
    used: list[Outcome] = []
    for number, row in enumerate(rows):
        if row.report is not None:
            part.findings.extend(row.report.found)
        part.read += row.at > 0
        if row.plain is not None or row.example is not None:
            part.kept.append(number not in left_out)
            if number not in left_out:
                used.append(row)
    _count(used, part)
    return part


def _count(rows: Sequence[Outcome], part: Part) -> None:
    """Note the content of the rows that are used."""
    part.used = len(rows)
    part.size = sum([len(row.line) + 1 for row in rows])
    part.places.extend([row.at for row in rows])
    part.digests = digests_of([row.line for row in rows])
    for number, row in enumerate(rows):
        example = row.accepted()
        assert example is not None
        digest = part.digests[number * DIGEST : (number + 1) * DIGEST]
        part.keys.frombytes(row_keys(example, digest))
        part.tally.add(example)


def _hold_against(rows: list[Outcome], limits: Limits, part: Part) -> frozenset[int]:
    """The places in `rows` of those that the limits refuse; why goes into the rows' reports."""
    sound = [(number, example) for number, row in enumerate(rows) if (example := row.accepted()) is not None]
    count = limits.rules.count_tokens
    tokens = count([example for _, example in sound]) if count and sound else [None] * len(sound)
    refused = set()
    for (number, example), size in zip(sound, tokens, strict=True):
        row = rows[number]
        row.report = row.report or RowReport(row.at)
        if check_limits(example, size, limits.rules, limits.method, limits.too_long, row.report) or row.report.failed:
            refused.add(number)
        elif size is not None:
            part.tally.tokens.add(size)
    return frozenset(refused)
