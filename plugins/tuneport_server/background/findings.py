"""What is wrong with an uploaded file, for who has only the wire: no config, no command line."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

import tuneport
from tuneport.plugin import Diagnostic, open_regular
from tuneport_server.background.hyperparameters import METHODS, Asked

_SHOWN = 5
_HEAD = 1 << 16
_UNREADABLE = frozenset({"invalid-json", "not-an-object", "not-json-lines", "not-utf8", "unknown-shape"}) | {
    "other-encoding",
    "other-file",
    "utf-16",
}
_SIGNATURES = {b"PAR1": "is Parquet", b"PK\x03\x04": "is a ZIP archive or a spreadsheet", b"%PDF": "is a PDF"}
_SEPARATORS = {b"\t": "TSV", b",": "CSV", b";": "CSV"}
_ROWS = {
    "dpo": '{"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}',
    "supervised": '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}',
}
# Where a check's own remedy names a config's key, an option or a function.
_REMEDIES = {
    "file-too-large": "Upload fewer rows.",
    "no-rows": "Check that it is the right file.",
    "too-long": "Shorten the row, or remove it.",
}


def told(found: Sequence[Diagnostic], file: Path, asked: Asked) -> str:
    """The first findings, causes before what follows from them, or what the whole file is where it is no JSONL."""
    causes = [one for one in found if one.code not in ("no-rows", "too-few-rows")]
    few = [one for one in found if one.code == "too-few-rows"]
    empty = [one for one in found if one.code == "no-rows"]
    if empty and causes and {one.code for one in causes} <= _UNREADABLE and (kind := _other_format(file)):
        return f"not-jsonl: The file {kind}. Send JSONL: UTF-8 text, one JSON object to a line, such as {_row(asked)}"
    shown = (causes if empty else causes + few) or empty
    lines = [_finding(one, asked) for one in shown[:_SHOWN]]
    return "\n".join(lines + ([f"and {len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []))


def _finding(one: Diagnostic, asked: Asked) -> str:
    message, remedy = one.message, _REMEDIES.get(one.code, one.remedy)
    if one.code == "unknown-shape":
        remedy = f"Write each row as {_row(asked)}"
    elif one.code == "shape-not-taken":
        message = re.sub(rf"^{METHODS[asked.method]}\b", asked.method, message)
        remedy = _other_method(asked)
    said = f"{one.code}: {message} {remedy}"
    if not one.line:
        return said
    return f"line {one.line} at {one.pointer}: {said}" if one.pointer else f"line {one.line}: {said}"


def _row(asked: Asked) -> str:
    return _ROWS.get(asked.method, _ROWS["supervised"])


def _other_method(asked: Asked) -> str:
    methods = tuneport.open_backend(asked.base.backend).capabilities.methods
    others = [name for name, method in METHODS.items() if method in methods and name != asked.method]
    if not others:
        return f"Write each row as {_row(asked)}"
    return f"Create the job with method.type {' or '.join(others)}, or write each row as {_row(asked)}"


def _other_format(file: Path) -> str | None:
    """What a file is in which no line is a row; None where its findings say it best, as for UTF-16."""
    with open_regular(file) as stream:
        head = stream.read(_HEAD)
    if head.startswith((b"\x1f\x8b", codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    if abs(head[::2].count(0) - head[1::2].count(0)) > len(head) // 4:  # Latin letters in UTF-16, without its mark
        return None
    if re.search(rb"[\x00-\x08\x0e-\x1f]", head):
        return "is not text"
    first = next((line for line in head.removeprefix(codecs.BOM_UTF8).splitlines() if line.strip()), b"").strip()
    if first == b"{":
        return "is one JSON object over several lines"
    if first.startswith(b"{"):
        return None
    if first.startswith(b"["):
        return "is a JSON array"
    return next((f"looks like {name}" for sign, name in _SEPARATORS.items() if sign in first), "is plain text")
