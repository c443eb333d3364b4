"""A source's rows in batches, each of which can be read row by row or folded into a part at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import BinaryIO

from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.jsonl import read_line
from tuneport.dataset.read.lines import read_blocks, report_too_large, split_lines, strip_bom
from tuneport.dataset.read.readers import read_file_notes, read_rows, report_expansion
from tuneport.dataset.read.source import ExpansionError, Source
from tuneport.dataset.scan import plain_chat
from tuneport.dataset.scan.fold import fold
from tuneport.dataset.scan.outcome import Outcome, check_row
from tuneport.dataset.scan.part import Part
from tuneport.dataset.shapes.recipe import Recipe

_BATCH_ROWS = 1024
_CHUNK = 1 << 16  # bytes of lines that are processed together: with their values they fit a processor's cache


class Batch:
    """Consecutive rows whose outcomes are known."""

    def __init__(self, outcomes: Iterable[Outcome], lines: int = 0) -> None:
        self._outcomes = outcomes
        self._lines = lines

    @property
    def lines(self) -> int:
        """How many lines the rows take; 0 where their outcomes have line numbers of the file."""
        return self._lines

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self._outcomes)

    def part(self) -> Part:
        """The rows as a part."""
        return fold(self, self.lines)

    def canonical(self) -> Iterator[bytes]:
        """The canonical lines of the accepted rows."""
        return (outcome.line for outcome in self if outcome.line)


class LineBatch(Batch):
    """Complete lines of JSONL, checked only when they are needed. Plain chat takes the fast path."""

    def __init__(self, block: bytes, recipe: Recipe | None) -> None:
        self._plain = plain_chat.fits(recipe)
        self._recipe = recipe
        if self._plain and b"\r" in block:
            block = block.replace(b"\r\n", b"\n")  # white space outside of texts; not allowed inside
        self._block = block if block.endswith(b"\n") else block + b"\n"
        super().__init__(())

    @property
    def lines(self) -> int:
        """How many lines there are."""
        return self._block.count(b"\n")

    def part(self) -> Part:
        """The rows as a part."""
        part = Part()
        for chunk in _cut(self._block):  # the values of tiny rows take many times their bytes
            if not (self._plain and plain_chat.fold(chunk, part)):
                part.extend(fold(self._check_lines(chunk), chunk.count(b"\n")))
        return part

    def canonical(self) -> Iterator[bytes]:
        """The canonical lines of the accepted rows."""
        for chunk in _cut(self._block):
            lines = plain_chat.canonical_lines(chunk) if self._plain else None
            yield from lines or (outcome.line for outcome in self._check_lines(chunk) if outcome.line)

    def __iter__(self) -> Iterator[Outcome]:
        return self._check_lines(self._block)

    def _check_lines(self, block: bytes) -> Iterator[Outcome]:
        for at, raw in enumerate(split_lines(block), 1):
            plain = plain_chat.decode_line(raw) if self._plain else None
            if plain is not None:
                yield Outcome(at, None, None, plain[0], plain[1])
                continue
            for value, report in read_line(raw, RowReport(at)):
                yield check_row(value, report, self._recipe)


def _cut(block: bytes) -> Iterator[bytes]:
    """Complete lines, about _CHUNK bytes at a time."""
    start = 0
    while start < len(block):
        end = block.find(b"\n", start + _CHUNK) + 1 or len(block)
        yield block[start:end]
        start = end


def read_batches(source: Source, recipe: Recipe | None) -> Iterator[Batch]:
    """A source's rows, batch by batch."""
    if source.format != "jsonl" or source.problem is not None:
        rows = read_rows(source)
        while batch := list(islice(rows, _BATCH_ROWS)):
            yield Batch([check_row(value, report, recipe) for value, report in batch])
        return
    yield batch_of_notes(source, recipe)
    with source.open() as stream:
        try:
            yield from _read_lines(stream, recipe)
            source.verify(stream)
        except ExpansionError as error:
            yield Batch([Outcome(0, report_expansion(error))])


def batch_of_notes(source: Source, recipe: Recipe | None) -> Batch:
    """The findings about the file that are known before any row is read."""
    return Batch([check_row(value, report, recipe) for value, report in read_file_notes(source)])


def _read_lines(stream: BinaryIO, recipe: Recipe | None) -> Iterator[Batch]:
    for number, (block, too_large) in enumerate(read_blocks(stream)):
        if too_large:
            yield batch_of_large_line(too_large)
        elif number == 0:
            yield from batches_of_start(block, recipe)
        else:
            yield LineBatch(block, recipe)


def batches_of_start(block: bytes, recipe: Recipe | None) -> Iterator[Batch]:
    """The lines at the start of a file, and notes on how it starts."""
    notes = RowReport(1)
    rest = strip_bom(block, notes)
    yield Batch([Outcome(0, notes)])
    if rest:
        yield LineBatch(rest, recipe)


def batch_of_large_line(size: int) -> Batch:
    """A line that is too large, and was not read."""
    return Batch([Outcome(1, report_too_large(1, size))], 1)
