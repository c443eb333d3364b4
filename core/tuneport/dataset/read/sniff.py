"""Detects a file's format and encoding from its name and first bytes."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tuneport.dataset.read.encodings import find_encoding, guess_encoding
from tuneport.errors import UsageError

FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "xlsx", "xls", "ods")
SHEETS = ("xlsx", "xls", "ods")
"""Formats of spreadsheets, which may have several tables."""
HEAD_BYTES = 1 << 16
"""How many bytes are examined."""

_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".xls": "xls",
    ".ods": "ods",
}
_OTHER_FILES = (
    (b"%PDF-", "a PDF document"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ\0", "compressed with xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"ARROW1\0\0", "an Arrow IPC (Feather) file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of Microsoft Office before 2007"),
)
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@dataclass(frozen=True)
class ReadOptions:
    """How the caller wants a file to be read."""

    format: str = "auto"
    encoding: str | None = None
    sheet: str | None = None


@dataclass(frozen=True)
class FileNote:
    """A finding about a file or one of its columns, without a line."""

    code: str
    message: str
    column: str | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class Sniffed:
    """A file's format and encoding. With a `problem`, none of its rows can be read."""

    format: str
    encoding: str | None = None
    notes: tuple[FileNote, ...] = ()
    problem: FileNote | None = None


def sniff(options: ReadOptions, path: Path, head: bytes, *, complete: bool) -> Sniffed:
    """What a file is, by the options, its name and its first bytes; `complete`: there are no others."""
    if options.format != "auto" and options.format not in FORMATS:
        raise UsageError(f"{options.format!r} is not a format.", remedy=f"Formats are {', '.join(FORMATS)}, or auto.")
    encoding = find_encoding(options.encoding) if options.encoding else None
    if encoding is not None:
        head = head.decode(encoding, "ignore").encode("utf-8", "ignore")
    found = _sniff_binary(path, head)
    named = _format_of_suffix(path)
    if named in SHEETS and found is None and head and b"\0" not in head:
        named = None  # text with a spreadsheet's suffix, as many web services write it
    chosen = options.format if options.format != "auto" else found or named or _sniff_text(head)
    found_out = Sniffed(chosen, encoding)
    if head.startswith(_OLE) and _ENCRYPTED in head:
        note = FileNote("other-file", "The workbook is protected by a password.", remedy="Save it without a password.")
        return Sniffed(chosen, encoding, problem=note)
    if chosen in ("parquet", *SHEETS):
        return found_out
    if (problem := _other_file(head, found)) or (
        options.encoding is None and (problem := _encoding_problem(head, complete=complete))
    ):
        return Sniffed(chosen, encoding, problem=problem)
    if chosen == "jsonl":
        return _check_json_lines(found_out, head, requested=options.format == "jsonl", complete=complete)
    return found_out


def _format_of_suffix(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1] if suffixes else "")


def _sniff_binary(path: Path, head: bytes) -> str | None:
    """The format of a binary file, whatever its suffix; None for text."""
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(_OLE) and _format_of_suffix(path) in (*SHEETS, None):
        return "xls" if b"W\0o\0r\0k\0b\0o\0o\0k\0" in head or _format_of_suffix(path) == "xls" else None
    if not head.startswith(_ZIP):
        return None
    if b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet" in head[:200]:
        return "ods"
    try:
        names = zipfile.ZipFile(path).namelist() if path.name else []
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        names = []
    if any(name.startswith("xl/") for name in names) or b"xl/" in head:
        return "xlsx"
    return _format_of_suffix(path) if _format_of_suffix(path) in SHEETS else None


def _other_file(head: bytes, found: str | None) -> FileNote | None:
    """The problem of a file that is neither text nor a table, or of a table that is to be read as text."""
    if found is not None:
        what = {"parquet": "a Parquet file", "ods": "an OpenDocument spreadsheet"}.get(found, "an Excel workbook")
        return FileNote("other-file", f"The file is {what} (.{found}).", remedy=f"Read it as one: --format {found}")
    what = next((what for start, what in _OTHER_FILES if head.startswith(start)), "")
    if what:
        return FileNote("other-file", f"The file is {what}.")
    start = head[:64].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        message = "The file is a Git LFS pointer, not the data."
        return FileNote("other-file", message, remedy="Fetch the data: git lfs pull")
    if start.startswith((b"<!doctype html", b"<html")):
        message = "The file is a web page (HTML). A download may have failed."
        return FileNote("other-file", message, remedy="Download the data again, or save the table as CSV in UTF-8.")
    return None


def _encoding_problem(head: bytes, *, complete: bool) -> FileNote | None:
    guess = guess_encoding(head, complete=complete)
    if guess is None:
        return None
    name, example = guess
    shown = f", which reads: {example}" if example else ""
    return FileNote(
        "utf-16" if name.startswith("utf-16") else "other-encoding",
        f"The file is not UTF-8. It looks like {name}{shown}",
        remedy=f"Name its encoding: --encoding {name} (encoding= in Python, data.encoding in a config), or "
        "another one if that looks wrong, or save the file as UTF-8.",
    )


def _sniff_text(head: bytes) -> str:
    """The text format that the first bytes look like."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    first = text.partition(b"\n")[0]
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{"):
        return "jsonl" if first.rstrip().endswith((b"}", b"},")) else "json"
    return "tsv" if b"\t" in first and b"," not in first else "csv"


def _check_json_lines(found: Sniffed, head: bytes, *, requested: bool, complete: bool) -> Sniffed:
    """`found`, unless the file is JSON in another layout: then JSON, or a problem where JSON Lines were requested."""
    layout = _describe_layout(head, complete=complete)
    if layout is None:
        return found
    if requested:
        remedy = "Rename it to .json and leave out --format, or use --format json."
        problem = FileNote("not-json-lines", f"{layout} That is not one object per line.", remedy=remedy)
        return Sniffed("jsonl", found.encoding, problem=problem)
    return Sniffed("json", found.encoding, (FileNote("read-as-json", f"{layout} It is read as JSON."),))


def _describe_layout(head: bytes, *, complete: bool) -> str | None:
    """The layout of JSON that is not one value per line, as a sentence; None for JSON Lines or other text."""
    text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "ignore").lstrip(" \t\r\n")
    first, _, rest = text.partition("\n")
    first = first.rstrip()
    if text.startswith("["):
        return "The file is one JSON array." if _starts_rows(text) else None
    if not text.startswith("{"):
        return None
    if first.endswith(",") and _find_end(first[:-1]) == len(first) - 1:
        return "The rows end with a comma, as in an array."
    end = _find_end(first)
    if end is None and rest:
        value = _find_end(text)
        if value is not None or (not complete and _is_cut(text)):
            return "The file has JSON values over several lines."
    if end is not None and end < len(first) and "\r" in first and not rest and first[end:].lstrip().startswith("{"):
        return "The file's lines end with CR alone."
    return None


def _starts_rows(text: str) -> bool:
    """Whether an array has objects: its first item is one."""
    inside = text[1:].lstrip()
    return inside.startswith("{")


def _find_end(text: str) -> int | None:
    """Where the JSON value at the start of a text ends; None where it does not end."""
    try:
        return json.JSONDecoder().raw_decode(text)[1]
    except (ValueError, RecursionError):
        return None


def _is_cut(text: str) -> bool:
    """Whether a JSON value is valid so far and continues after the text."""
    try:
        json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        return error.msg.startswith("Unterminated") or error.pos > len(text) - 16
    except (ValueError, RecursionError):
        return False
    return True
