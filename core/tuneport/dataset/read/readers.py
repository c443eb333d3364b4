"""Bytes to rows, by format. Each row is a value with a report, or the reason why it is unreadable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.jsonl import Read, read_jsonl
from tuneport.dataset.read.sniff import SHEETS
from tuneport.dataset.read.source import ExpansionError, Source
from tuneport.dataset.read.strict_json import BAD


def read_rows(source: Source) -> Iterator[Read]:
    """The rows of a source of any size and format, streamed. An error of the file is BAD with a report without a
    line.
    """
    yield from read_file_notes(source)
    if source.problem is not None:
        return
    with source.open() as stream:
        try:
            yield from _read_format(source, stream)
        except ExpansionError as error:
            yield BAD, report_expansion(error)


def read_file_notes(source: Source) -> Iterator[Read]:
    """The findings about the file that are known before any row is read."""
    for one in (*source.notes, *((source.problem,) if source.problem else ())):
        report = RowReport(None)
        report.add(one.code, one.message, one.column, one.remedy)
        yield BAD if one is source.problem else None, report


def report_expansion(error: ExpansionError) -> RowReport:
    """The report of a compressed file that expands too much or is broken."""
    report = RowReport(None)
    report.add(error.code, error.message)
    return report


def _read_format(source: Source, stream: BinaryIO) -> Iterator[Read]:
    if source.format == "jsonl":
        return read_jsonl(stream)
    if source.format == "json":
        from tuneport.dataset.read.json_file import read_json

        return read_json(stream)
    if source.format == "parquet":
        from tuneport.dataset.read.arrow import read_parquet

        return read_parquet(source, stream)
    if source.format in SHEETS:
        from tuneport.dataset.read.spreadsheets import read_sheet

        return read_sheet(source, stream)
    from tuneport.dataset.read.csv_file import read_csv

    return read_csv(stream, "\t" if source.format == "tsv" else None)
