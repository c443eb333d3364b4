"""Parses arguments that are neither JSON nor between tags: `a='b', c=[1]` or `{a:<|"|>b<|"|>}`."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_WORD = re.compile(r"[A-Za-z]+")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_KEY = re.compile(r"[^\s\"'{}\[\](),:=<>]+")
_SPACE = re.compile(r"\s*")
_PLAIN = ("'", '"')
_DEEP = 64


class ArgumentReader:
    """Parses one call's arguments in a text. `quote` is what the template writes around a string; with `raw` it escapes
    nothing in it. Methods raise ValueError if the text has another form or ends too early.
    """

    def __init__(self, text: str, quote: str, *, raw: bool) -> None:
        self._said, self._raw = text, raw
        self._quotes = (quote, *(one for one in _PLAIN if one != quote))
        self._at = 0

    def object(self, at: int) -> tuple[dict[str, Any], int]:
        """The object that starts with `{` at `at`, and where it ends."""
        self._at = at
        self._take("{")
        return self._parse_mapping(0), self._at

    def keywords(self, at: int) -> tuple[dict[str, Any], int]:
        """The keyword arguments that start at `at`, after `(`, and where they end, after `)`."""
        self._at = at
        given: dict[str, Any] = {}

        def one() -> None:
            key = self._match(_KEY)
            self._take("=")
            given[key] = self._parse_raw_text() if self._raw and self._opens(self._quotes[0]) else self._parse_value(0)

        self._parse_items(")", one)
        return given, self._at

    def _parse_mapping(self, depth: int) -> dict[str, Any]:
        given: dict[str, Any] = {}

        def one() -> None:
            quote = next(filter(self._opens, self._quotes), None)
            key = self._match(_KEY) if quote is None else self._parse_text(quote)
            self._take(":")
            given[key] = self._parse_value(depth + 1)

        self._parse_items("}", one)
        return given

    def _parse_value(self, depth: int) -> Any:
        if depth > _DEEP:
            raise ValueError("nested too deeply")
        quote = next(filter(self._opens, self._quotes), None)
        if quote is not None:
            return self._parse_text(quote)
        if self._opens("{"):
            self._take("{")
            return self._parse_mapping(depth)
        if self._opens("["):
            self._take("[")
            listed: list[Any] = []
            self._parse_items("]", lambda: listed.append(self._parse_value(depth + 1)))
            return listed
        if number := _NUMBER.match(self._said, self._at):
            self._at = number.end()
            return json.loads(number[0])
        return _WORDS[self._parse_word()]

    def _parse_word(self) -> str:
        word = self._match(_WORD)
        if word not in _WORDS:
            raise ValueError(f"no value: {word[:20]}")
        return word

    def _parse_items(self, end: str, one: Callable[[], None]) -> None:
        """Parse items by `one`, separated by commas, up to `end`."""
        if self._opens(end):
            return self._take(end)
        while True:
            one()
            if self._opens(end):
                return self._take(end)
            self._take(",")

    def _parse_text(self, quote: str) -> str:
        self._take(quote, space=False)
        start = self._at
        escapes = quote in _PLAIN
        found = re.compile(rf"((?:[^\\{quote}]|\\.)*){quote}" if escapes else rf"(.*?){re.escape(quote)}", re.DOTALL)
        text = found.match(self._said, start)
        if text is None:
            raise ValueError("no end of a text")
        self._at = text.end()
        return _unescape(text[1], quote) if escapes else text[1]

    def _parse_raw_text(self) -> str:
        """A string with unescaped quotes: it ends before another argument or the end of the call."""
        quote = re.escape(self._quotes[0])
        text = re.compile(rf"{quote}(.*?){quote}(?=\s*(?:,\s*\w+\s*=|\)))", re.DOTALL).match(self._said, self._at)
        if text is None:
            raise ValueError("no end of a text")
        self._at = text.end()
        return text[1]

    def _opens(self, what: str) -> bool:
        self._skip()
        return self._said.startswith(what, self._at)

    def _take(self, what: str, *, space: bool = True) -> None:
        if not self._opens(what):
            raise ValueError(f"no {what}")
        self._at += len(what)
        if space:
            self._skip()

    def _match(self, pattern: re.Pattern[str]) -> str:
        self._skip()
        found = pattern.match(self._said, self._at)
        if found is None:
            raise ValueError("no key or value")
        self._at = found.end()
        return found[0]

    def _skip(self) -> None:
        space = _SPACE.match(self._said, self._at)
        assert space is not None
        self._at = space.end()


def _unescape(text: str, quote: str) -> str:
    if "\\" not in text:
        return text
    line = text.replace("\r", "\\r").replace("\n", "\\n")
    try:
        return str(ast.literal_eval(f"{quote}{line}{quote}"))
    except (ValueError, SyntaxError):
        return text


def tagged_value(text: str, schema: Any) -> Any:
    """An argument between tags: text if the tool's schema says so; otherwise JSON, a Python constant, or text."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind == "string":
        return text
    bare = text.strip()
    if bare in _WORDS:
        return _WORDS[bare]
    try:
        return json.loads(bare)
    except (ValueError, RecursionError):
        return text
