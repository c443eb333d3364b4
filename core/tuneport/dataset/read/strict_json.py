"""Strict JSON: errors that lenient parsers ignore are reported with their place."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from tuneport.dataset.findings.row_report import RowReport

MAX_DEPTH = 100
_SHOWN = 10  # keys in one message
BAD: Any = object()
"""What `parse` returns for a row that cannot be used."""

_SPACED_COLON = re.compile(rb'"[ \t\r\n]+:')
_SURROGATE = re.compile("[\ud800-\udfff]")
_decode = msgspec.json.Decoder().decode


def parse(raw: bytes, report: RowReport) -> Any:
    """The value of one JSON text, or BAD with the reasons in the report."""
    try:
        value = _decode(raw)
        if key_count(raw) == _decoded_keys(value, 0):
            return value
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    return _parse_slowly(raw, report)


def key_count(raw: bytes) -> int:
    """How many keys a valid JSON text has, counting repeated ones; -1 where only a parser can tell.

    A quote inside a string is escaped, so an unescaped `":` ends a key. This fails only for white space before the
    colon and for a key that ends in a backslash.
    """
    keys = raw.count(b'":')
    if b"\\" in raw:
        if b'\\\\":' in raw:
            return -1
        keys -= raw.count(b'\\":')
    if any(end in raw for end in (b" :", b"\t:", b"\r:", b"\n:")) and _SPACED_COLON.search(raw):
        return -1
    return keys


def _decoded_keys(value: Any, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, dict):
        return len(value) + sum([_decoded_keys(one, depth + 1) for one in value.values() if type(one) in (dict, list)])
    if isinstance(value, list):
        return sum([_decoded_keys(one, depth + 1) for one in value if type(one) in (dict, list)])
    return 0


class _Repeats(dict[str, Any]):
    """An object with repeated keys."""

    repeated: list[str]


class _Constant(str):
    """NaN, Infinity or a number too large for a float, as written in the text."""

    code = "non-finite-number"


class _TooLarge(_Constant):
    code = "number-too-large"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        times = Counter(name for name, _ in pairs)
        built = _Repeats(built)
        built.repeated = sorted(name for name, count in times.items() if count > 1)
    return built


def _float(text: str) -> float | _TooLarge:
    number = float(text)
    return number if math.isfinite(number) else _TooLarge(text)


def _int(text: str) -> int | _TooLarge:
    return int(text) if len(text) < 1000 else _TooLarge(text)


decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_Constant, parse_float=_float, parse_int=_int)
"""Marks errors in the value instead of hiding them; `check_value` reports the marks."""


def _parse_slowly(raw: bytes, report: RowReport) -> Any:
    """The value, or BAD with what is wrong and where in the report."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        report.add(
            "not-utf8",
            f"Byte {error.start + 1} of the row is 0x{raw[error.start]:02x}, which is not valid UTF-8 there.",
        )
        return BAD
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as error:
        report.add("invalid-json", describe_error(error))
        return BAD
    except RecursionError:
        report.add("too-deep", f"Values are nested more than {MAX_DEPTH} levels deep.")
        return BAD
    return check_value(value, report)


def check_value(value: Any, report: RowReport) -> Any:
    """The value that `decoder` returned if nothing in it is marked, or else BAD with the marks in the report.

    NaN as a column's value means that there is none, as in data frames.
    """
    if isinstance(value, dict) and any(isinstance(one, _Constant) and one == "NaN" for one in value.values()):
        for key, one in value.items():
            if isinstance(one, _Constant) and one == "NaN":
                value[key] = None
    for pointer, depth, node in _walk(value):
        if depth > MAX_DEPTH:
            report.add("too-deep", f"Values are nested more than {MAX_DEPTH} levels deep.")
            return BAD
        if isinstance(node, _Repeats):
            keys = ", ".join(map(repr, node.repeated[:_SHOWN])) + (", …" if len(node.repeated) > _SHOWN else "")
            report.add("duplicate-key", f"The key {keys} occurs twice.", pointer)
        elif isinstance(node, _Constant):
            report.add(node.code, f"{_shorten(node)} is not a number in JSON.", pointer)
        elif isinstance(node, str) and not node.isascii() and (found := _SURROGATE.search(node)):
            report.add("lone-surrogate", f"\\u{ord(found[0]):04x} is without its other half.", pointer)
    return BAD if report.failed else value


def describe_error(error: json.JSONDecodeError) -> str:
    """A JSON error in plain words, with its place in the row."""
    where = f"column {error.pos + 1}" if error.lineno == 1 else f"line {error.lineno} of the row, column {error.colno}"
    before, here = error.doc[: error.pos].rstrip(), error.doc[error.pos : error.pos + 1]
    what = f"{error.msg[0].lower()}{error.msg[1:]}".split(" (")[0]
    if not here and not error.msg.startswith("Unterminated"):
        what = "the row ends in the middle of a value"
    elif here in "}]" and before.endswith(","):
        what = "there is a comma before the closing bracket"
    elif error.doc[error.pos : error.pos + 2] in ("//", "/*") or here == "#":
        what = "JSON has no comments"
    elif here == "'":
        what = "quotes must be double quotes"
    elif error.msg == "Extra data" and error.doc[error.pos :].strip() == ",":
        what = "a comma follows the value. Remove it"
    elif error.msg == "Extra data" and here == "{":
        what = "another value follows on the line. Write one per line, or rename the file to .json"
    elif error.msg == "Extra data":
        what = "there is extra text after the value"
    elif error.doc[error.pos : error.pos + 4] in ("None", "True") or error.doc[error.pos : error.pos + 5] == "False":
        what = "write null, true and false, not Python's None, True and False"
    return f"Not valid JSON at {where}: {what}."


def _walk(value: Any) -> Iterator[tuple[str, int, Any]]:
    """Every key and value with its JSON pointer and depth; not recursive, because the depth may be the error."""
    stack: list[tuple[str, int, Any]] = [("", 0, value)]
    while stack:
        pointer, depth, node = stack.pop()
        yield pointer, depth, node
        if depth > MAX_DEPTH:
            continue
        if isinstance(node, dict):
            for key, one in node.items():
                yield pointer, depth, key
                stack.append((f"{pointer}/{escape(key)}", depth + 1, one))
        elif isinstance(node, list):
            stack.extend((f"{pointer}/{index}", depth + 1, one) for index, one in enumerate(node))


def escape(key: str) -> str:
    """A key as a part of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1").encode("utf-8", "replace").decode()


def _shorten(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:20]}…"
