"""Bytes to rows, format by format: each row a value with its line, or what made it unreadable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from tuneport.dataset.findings import RowReport
from tuneport.dataset.lines import Read, jsonl
from tuneport.dataset.source import ExpansionError, Source
from tuneport.dataset.strictjson import BAD


def read(source: Source) -> Iterator[Read]:
    """The rows of a source, without hurry; streams, whatever the size. What is wrong with the file is a row's BAD too,
    in a report without a line.
    """
    report = RowReport(None)
    if source.utf16:
        report.add("utf-16", "The file starts as UTF-16 does.")
        yield BAD, report
        return
    with source.open() as stream:
        try:
            yield from _rows(source, stream)
        except ExpansionError as error:
            report.add(error.code, error.message)
            yield BAD, report


def _rows(source: Source, stream: BinaryIO) -> Iterator[Read]:
    if source.format == "jsonl":
        return jsonl(stream)
    if source.format == "json":
        from tuneport.dataset import jsonfile

        return jsonfile.rows(stream)
    if source.format == "parquet":
        from tuneport.dataset import tables

        return tables.parquet(source.name, stream)
    from tuneport.dataset import csvfile

    return csvfile.rows(stream, "\t" if source.format == "tsv" else None)
