"""JSON as the standard means it: what lenient parsers let pass is found and named, with its place."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from tuneport.dataset.findings.findings import RowReport

MAX_DEPTH = 100
_NAMED = 10  # keys in one message
BAD: Any = object()
"""What `parse` returns for a row that cannot be used."""

_SPACED_COLON = re.compile(rb'"[ \t\r\n]+:')
_SURROGATE = re.compile("[\ud800-\udfff]")
_decode = msgspec.json.Decoder().decode


def parse(raw: bytes, report: RowReport) -> Any:
    """The value of one JSON text, or BAD, with the reasons in the report."""
    try:
        value = _decode(raw)
        if key_count(raw) == _decoded_keys(value, 0):
            return value
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    return explain(raw, report)


def key_count(raw: bytes) -> int:
    """How many keys a valid JSON text has, repeated ones included; -1 where only a parser can tell.

    A quote inside a string has a backslash before it, so `":` without one ends a key. What could deceive that are
    white space before the colon and a key that ends in a backslash.
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
    """An object in which keys were repeated."""

    repeated: list[str]


class _Constant(str):
    """NaN, Infinity or a number beyond any float, as it stood there."""

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
"""Marks what is wrong instead of hiding it; `value_of` takes the marks out again, or reports them."""


def explain(raw: bytes, report: RowReport) -> Any:
    """Parse slowly, and say what is wrong and where; BAD when something is."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        report.add(
            "not-utf8", f"Byte {error.start + 1} of the row is 0x{raw[error.start]:02x}, which is not UTF-8 there."
        )
        return BAD
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as error:
        report.add("invalid-json", say(error))
        return BAD
    except RecursionError:
        report.add("too-deep", f"Values are nested more than {MAX_DEPTH} deep.")
        return BAD
    return value_of(value, report)


def value_of(value: Any, report: RowReport) -> Any:
    """The value that `decoder` gave if nothing in it is marked, else BAD, with the marks in the report.

    NaN in a column of a row stands for no value, as in data frames and in what Python writes of them.
    """
    if isinstance(value, dict) and any(isinstance(one, _Constant) and one == "NaN" for one in value.values()):
        for key, one in value.items():
            if isinstance(one, _Constant) and one == "NaN":
                value[key] = None
    for pointer, depth, node in _walk(value):
        if depth > MAX_DEPTH:
            report.add("too-deep", f"Values are nested more than {MAX_DEPTH} deep.")
            return BAD
        if isinstance(node, _Repeats):
            said = ", ".join(map(repr, node.repeated[:_NAMED])) + (", …" if len(node.repeated) > _NAMED else "")
            report.add("duplicate-key", f"The key {said} stands there twice.", pointer)
        elif isinstance(node, _Constant):
            report.add(node.code, f"{_short(node)} is not a number that JSON and computers share.", pointer)
        elif isinstance(node, str) and not node.isascii() and (found := _SURROGATE.search(node)):
            report.add("lone-surrogate", f"\\u{ord(found[0]):04x} stands without its other half.", pointer)
    return BAD if report.failed else value


def say(error: json.JSONDecodeError) -> str:
    """What a JSON error means, with its place in the row."""
    where = f"column {error.pos + 1}" if error.lineno == 1 else f"line {error.lineno} of the row, column {error.colno}"
    before, here = error.doc[: error.pos].rstrip(), error.doc[error.pos : error.pos + 1]
    what = f"{error.msg[0].lower()}{error.msg[1:]}".split(" (")[0]
    if not here and not error.msg.startswith("Unterminated"):
        what = "the row ends in the middle of a value"
    elif here in "}]" and before.endswith(","):
        what = "a comma stands before the closing bracket"
    elif error.doc[error.pos : error.pos + 2] in ("//", "/*") or here == "#":
        what = "JSON has no comments"
    elif here == "'":
        what = "quotes must be double quotes"
    elif error.msg == "Extra data" and error.doc[error.pos :].strip() == ",":
        what = "a comma follows the value; remove it"
    elif error.msg == "Extra data" and here == "{":
        what = "another value follows on the line; write each on a line of its own, or name the file .json"
    elif error.msg == "Extra data":
        what = "something follows the end of the value"
    elif error.doc[error.pos : error.pos + 4] in ("None", "True") or error.doc[error.pos : error.pos + 5] == "False":
        what = "null, true and false are written so, not as in Python"
    return f"Not valid JSON at {where}: {what}."


def _walk(value: Any) -> Iterator[tuple[str, int, Any]]:
    """Every key and value with its JSON pointer and depth; not recursive, since depth is what may be wrong."""
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


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:20]}…"
