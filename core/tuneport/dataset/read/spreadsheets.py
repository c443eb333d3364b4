"""Spreadsheets (.xlsx, .xls, .ods) to rows. Requires python-calamine."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.read.decoder_process import Decoded, Unusable, decode_rows, main
from tuneport.dataset.read.header import read_header
from tuneport.dataset.read.source import Source, refuse_expansion
from tuneport.dataset.read.strict_json import BAD
from tuneport.dataset.read.values import column_note, to_json_value
from tuneport.errors import UnavailableError

_KINDS = {"xlsx": "an Excel workbook (.xlsx)", "xls": "an Excel workbook (.xls)", "ods": "an OpenDocument sheet (.ods)"}
_ERRORS = frozenset({"#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#SPILL!", "#CALC!"})
_SHOWN = 10  # sheets in one message


def read_sheet(source: Source, stream: BinaryIO) -> Iterator[tuple[Any, RowReport]]:
    """The rows of a sheet: the first one, unless the source names another. Each has its number as its line. The first
    row that is not empty names the columns. Another process decodes the file.
    """
    kind = _KINDS[source.format]
    if importlib.util.find_spec("python_calamine") is None:
        raise UnavailableError(
            f"{source.name} is {kind}. Reading it requires python-calamine, which is not installed.",
            remedy="Run: pip install 'tuneport[xlsx]', or save the sheet as CSV in UTF-8.",
        )
    columns = None
    requested = () if source.sheet is None else (source.sheet,)
    for value, note in decode_rows(__name__, source, stream, *requested, kind=kind):
        if value is None or value is BAD:
            yield value, note
            continue
        fields, report = value["fields"], RowReport(value["line"])
        if columns is not None:
            row = columns.read_row(fields, report)
            yield BAD if report.failed else row, report
        elif any(str(field).strip() for field in fields):
            columns = read_header([str(field) for field in fields], report)
            if columns is None:
                report.line = None  # it is about the file: no row was refused
            if report.found:
                yield BAD if columns is None else None, report
            if columns is None:
                return


def _decode_file(file: BinaryIO) -> Iterator[Decoded]:
    """The rows of the sheet named on the command line, each with its number, and notes on values read as texts."""
    from python_calamine import CalamineWorkbook

    _refuse_zip_bomb(file)
    book = CalamineWorkbook.from_filelike(file)
    names = book.sheet_names
    requested = sys.argv[1] if len(sys.argv) > 1 else None
    if requested is not None and requested not in names:
        more = ", …" if len(names) > _SHOWN else ""
        raise Unusable(f"There is no sheet {requested!r}.", f"The sheets are {', '.join(names[:_SHOWN])}{more}.")
    sheet = book.get_sheet_by_name(requested) if requested is not None else book.get_sheet_by_index(0)
    if requested is None and len(names) > 1:
        yield None, ("one-sheet", "", f"The first sheet of {len(names)}, {names[0]!r}, is read.")
    heads: list[str] | None = None
    noted: set[str] = set()
    for number, cells in enumerate(sheet.iter_rows(), 1):
        if all(cell in ("", None) for cell in cells):  # many sheets have very many empty rows
            continue
        kinds: dict[str, str] = {}
        named = heads or []
        fields = [
            _read_cell(cell, kinds, named[place] if place < len(named) else "") for place, cell in enumerate(cells)
        ]
        if heads is None and any(str(field).strip() for field in fields):
            heads = [str(field).strip() for field in fields]
        for column in kinds.keys() - noted - {""}:
            noted.add(column)
            yield None, ("read-as-text", column, column_note(column, kinds[column]))
        yield {"line": number, "fields": fields}, None


def _read_cell(cell: Any, kinds: dict[str, str], column: str) -> Any:
    """A cell's value. Spreadsheets store integers as floats."""
    if isinstance(cell, str) and cell in _ERRORS:
        kinds[column] = f"errors such as {cell}, read as missing values"
        return None
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1 << 53:
        return int(cell)
    return to_json_value(cell, kinds, column)


def _refuse_zip_bomb(file: BinaryIO) -> None:
    """Raise ExpansionError where the parts of a zip archive are together larger than data normally is."""
    size = file.seek(0, 2)
    file.seek(0)
    if zipfile.is_zipfile(file):
        file.seek(0)
        refuse_expansion(size, sum(part.file_size for part in zipfile.ZipFile(file).infolist()))
    file.seek(0)


if __name__ == "__main__":
    sys.exit(main(_decode_file))
