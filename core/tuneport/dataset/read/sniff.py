"""What a file is: its format, its encoding, and what is to be said of it before any row is read."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tuneport.dataset.read.encodings import encoding_named, other_encoding
from tuneport.errors import UsageError

FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "xlsx", "xls", "ods")
SHEETS = ("xlsx", "xls", "ods")
"""Formats of spreadsheets, which hold several tables."""
HEAD = 1 << 16
"""How many bytes are looked at."""

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
_FOREIGN = (
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
class Reading:
    """How somebody asked that a file be read."""

    format: str = "auto"
    encoding: str | None = None
    sheet: str | None = None


@dataclass(frozen=True)
class Said:
    """Something about a file as a whole: a finding without a line, or about one of its columns."""

    code: str
    message: str
    column: str | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class Look:
    """What a file was found to be. With a `problem`, no row of it can be read."""

    format: str
    encoding: str | None = None
    notes: tuple[Said, ...] = ()
    problem: Said | None = None


def look(how: Reading, path: Path, head: bytes, *, whole: bool) -> Look:
    """What a file is by what was asked, its name and its first bytes; `whole` says that there are no others."""
    if how.format != "auto" and how.format not in FORMATS:
        raise UsageError(f"{how.format!r} is no format.", remedy=f"Formats are {', '.join(FORMATS)}, or auto.")
    encoding = encoding_named(how.encoding) if how.encoding else None
    if encoding is not None:
        head = head.decode(encoding, "ignore").encode("utf-8", "ignore")
    found = _binary(path, head)
    named = _suffix(path)
    if named in SHEETS and found is None and head and b"\0" not in head:
        named = None  # text under a spreadsheet's name, as many web services write it
    chosen = how.format if how.format != "auto" else found or named or _sniff(head)
    look = Look(chosen, encoding)
    if head.startswith(_OLE) and _ENCRYPTED in head:
        said = "The workbook is protected by a password."
        return Look(chosen, encoding, problem=Said("other-file", said, remedy="Save it without a password."))
    if chosen in ("parquet", *SHEETS):
        return look
    if (problem := _foreign(head, found)) or (
        how.encoding is None and (problem := _encoding_problem(head, whole=whole))
    ):
        return Look(chosen, encoding, problem=problem)
    return _json_lines(look, head, asked=how.format == "jsonl", whole=whole) if chosen == "jsonl" else look


def _suffix(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1] if suffixes else "")


def _binary(path: Path, head: bytes) -> str | None:
    """The format of a file that is no text, whatever its name says."""
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(_OLE) and _suffix(path) in (*SHEETS, None):
        return "xls" if b"W\0o\0r\0k\0b\0o\0o\0k\0" in head or _suffix(path) == "xls" else None
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
    return _suffix(path) if _suffix(path) in SHEETS else None


def _foreign(head: bytes, found: str | None) -> Said | None:
    """What is no text and no table at all, or a table that was asked to be read as text."""
    if found is not None:
        what = {"parquet": "a Parquet file", "ods": "an OpenDocument spreadsheet"}.get(found, "an Excel workbook")
        return Said("other-file", f"The file is {what} (.{found}).", remedy=f"Let it be read as one: --format {found}")
    what = next((what for start, what in _FOREIGN if head.startswith(start)), "")
    if what:
        return Said("other-file", f"The file is {what}.")
    start = head[:64].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        said = "The file is a pointer of Git LFS, not the data."
        return Said("other-file", said, remedy="Fetch the data: git lfs pull")
    if start.startswith((b"<!doctype html", b"<html")):
        said = "The file is a web page (HTML), such as a download that failed leaves."
        return Said("other-file", said, remedy="Download the data again, or save the table as CSV in UTF-8.")
    return None


def _encoding_problem(head: bytes, *, whole: bool) -> Said | None:
    other = other_encoding(head, whole=whole)
    if other is None:
        return None
    name, example = other
    shown = f", in which it reads: {example}" if example else ""
    return Said(
        "utf-16" if name.startswith("utf-16") else "other-encoding",
        f"The file is not UTF-8. It looks like {name}{shown}",
        remedy=f"Name its encoding: --encoding {name} (encoding= in Python, data.encoding in a config), or "
        "another one if that reads wrong, or save the file as UTF-8.",
    )


def _sniff(head: bytes) -> str:
    """The format that the first bytes look like."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    first = text.partition(b"\n")[0]
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{"):
        return "jsonl" if first.rstrip().endswith((b"}", b"},")) else "json"
    return "tsv" if b"\t" in first and b"," not in first else "csv"


def _json_lines(look: Look, head: bytes, *, asked: bool, whole: bool) -> Look:
    """The same, unless what is named JSON lines is JSON of another layout: read as such, or refused where asked for."""
    what = _layout(head, whole=whole)
    if what is None:
        return look
    said = Said("not-json-lines", f"{what} That is not one object a line.")
    if asked:
        cure = "Name it .json and leave --format out, or say --format json."
        return Look("jsonl", look.encoding, problem=Said(said.code, said.message, remedy=cure))
    return Look("json", look.encoding, (Said("read-as-json", f"{what} It is read as JSON."),))


def _layout(head: bytes, *, whole: bool) -> str | None:
    """What is to be said of JSON that is not one value a line; None where it is, or is no JSON."""
    text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "ignore").lstrip(" \t\r\n")
    first, _, rest = text.partition("\n")
    first = first.rstrip()
    if text.startswith("["):
        return "The file is one JSON array." if _starts_rows(text) else None
    if not text.startswith("{"):
        return None
    if first.endswith(",") and _ends(first[:-1]) == len(first) - 1:
        return "The rows end with a comma, as inside of an array."
    end = _ends(first)
    if end is None and rest:
        value = _ends(text)
        if value is not None or (not whole and _is_cut(text)):
            return "The file holds JSON values over several lines."
    if end is not None and end < len(first) and "\r" in first and not rest and first[end:].lstrip().startswith("{"):
        return "The file's lines end with CR alone."
    return None


def _starts_rows(text: str) -> bool:
    """Whether an array holds objects: its first item is one, or it is empty."""
    inside = text[1:].lstrip()
    return inside.startswith("{")


def _ends(text: str) -> int | None:
    """Where the JSON value ends that a text starts with; None where it does not end."""
    try:
        return json.JSONDecoder().raw_decode(text)[1]
    except (ValueError, RecursionError):
        return None


def _is_cut(text: str) -> bool:
    """Whether a JSON value is sound as far as it goes, and goes on beyond the text."""
    try:
        json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        return error.msg.startswith("Unterminated") or error.pos > len(text) - 16
    except (ValueError, RecursionError):
        return False
    return True
