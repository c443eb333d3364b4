"""What is wrong with an uploaded file, for clients that have only the wire: no config and no command line."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

import tuneport
from tuneport.plugin import Diagnostic, open_regular
from tuneport_server.background.hyperparameters import METHODS, TrainingRequest

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
# For remedies that name a config's key, an option or a function.
_REMEDIES = {
    "file-too-large": "Upload fewer rows.",
    "no-rows": "Check that it is the right file.",
    "too-long": "Shorten the row, or remove it.",
}


def describe(found: Sequence[Diagnostic], file: Path, request: TrainingRequest) -> str:
    """Return the first findings as text, causes before their consequences; the file's format if it is not JSONL."""
    causes = [one for one in found if one.code not in ("no-rows", "too-few-rows")]
    few = [one for one in found if one.code == "too-few-rows"]
    empty = [one for one in found if one.code == "no-rows"]
    if empty and causes and {one.code for one in causes} <= _UNREADABLE and (kind := _other_format(file)):
        return f"not-jsonl: The file {kind}. Send JSONL: UTF-8 text, one JSON object per line, such as {_row(request)}"
    shown = (causes if empty else causes + few) or empty
    lines = [_finding(one, request) for one in shown[:_SHOWN]]
    return "\n".join(lines + ([f"and {len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []))


def _finding(one: Diagnostic, request: TrainingRequest) -> str:
    message, remedy = one.message, _REMEDIES.get(one.code, one.remedy)
    if one.code == "unknown-shape":
        remedy = f"Write each row as {_row(request)}"
    elif one.code == "shape-not-taken":
        message = re.sub(rf"^{METHODS[request.method]}\b", request.method, message)
        remedy = _other_method(request)
    text = f"{one.code}: {message} {remedy}"
    if not one.line:
        return text
    return f"line {one.line} at {one.pointer}: {text}" if one.pointer else f"line {one.line}: {text}"


def _row(request: TrainingRequest) -> str:
    return _ROWS.get(request.method, _ROWS["supervised"])


def _other_method(request: TrainingRequest) -> str:
    methods = tuneport.open_backend(request.base.backend).capabilities.methods
    others = [name for name, method in METHODS.items() if method in methods and name != request.method]
    if not others:
        return f"Write each row as {_row(request)}"
    return f"Create the job with method.type {' or '.join(others)}, or write each row as {_row(request)}"


def _other_format(file: Path) -> str | None:
    """Return what kind of file it is if no line is a row; None where its findings say it better, as for UTF-16."""
    with open_regular(file) as stream:
        head = stream.read(_HEAD)
    if head.startswith((b"\x1f\x8b", codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    if (
        abs(head[::2].count(0) - head[1::2].count(0)) > len(head) // 4
    ):  # Latin letters in UTF-16 without a byte order mark
        return None
    if re.search(rb"[\x00-\x08\x0e-\x1f]", head):
        return "is not text"
    first = next((line for line in head.removeprefix(codecs.BOM_UTF8).splitlines() if line.strip()), b"").strip()
    if first == b"{":
        return "is one JSON object on several lines"
    if first.startswith(b"{"):
        return None
    if first.startswith(b"["):
        return "is a JSON array"
    return next((f"looks like {name}" for sign, name in _SEPARATORS.items() if sign in first), "is plain text")
