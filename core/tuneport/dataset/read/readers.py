"""Bytes to rows, format by format: each row a value with its line, or what made it unreadable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from tuneport.dataset.findings.findings import RowReport
from tuneport.dataset.read.lines import Read, jsonl
from tuneport.dataset.read.sniff import SHEETS
from tuneport.dataset.read.source import ExpansionError, Source
from tuneport.dataset.read.strict_json import BAD


def read(source: Source) -> Iterator[Read]:
    """The rows of a source, without hurry; streams, whatever the size. What is wrong with the file is a row's BAD too,
    in a report without a line.
    """
    yield from said(source)
    if source.problem is not None:
        return
    report = RowReport(None)
    with source.open() as stream:
        try:
            yield from _rows(source, stream)
        except ExpansionError as error:
            report.add(error.code, error.message)
            yield BAD, report


def said(source: Source) -> Iterator[Read]:
    """What is to be said of the file before any row is read."""
    for one in (*source.notes, *((source.problem,) if source.problem else ())):
        report = RowReport(None)
        report.add(one.code, one.message, one.column, one.remedy)
        yield BAD if one is source.problem else None, report


def _rows(source: Source, stream: BinaryIO) -> Iterator[Read]:
    if source.format == "jsonl":
        return jsonl(stream)
    if source.format == "json":
        from tuneport.dataset.read import json_file as jsonfile

        return jsonfile.rows(stream)
    if source.format == "parquet":
        from tuneport.dataset.read import arrow as tables

        return tables.parquet(source, stream)
    if source.format in SHEETS:
        from tuneport.dataset.read import spreadsheets as sheets

        return sheets.rows(source, stream)
    from tuneport.dataset.read import csv_file as csvfile

    return csvfile.rows(stream, "\t" if source.format == "tsv" else None)
