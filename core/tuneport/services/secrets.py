"""Removes secrets from texts, in every encoding in which a service may repeat them."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from urllib.parse import quote, quote_plus

from tuneport.doors import AUTHORS, public

MASK = "…"
"""Replaces a secret."""
_SHORTEST = 4  # three letters are not a secret, and would match in any text
_LONG = 8  # shorter ones, such as `test`, are removed only as complete words


@public(AUTHORS)
class Redactor:
    """Removes secrets from texts: literally, and in base64, percent, hexadecimal, HTML and JSON encoding.

    `read` returns the secrets that may have been sent. It is called for each text, because a variable may change.
    """

    def __init__(self, read: Callable[[], Iterable[str]]) -> None:
        self._read = read

    def __call__(self, text: str) -> str:
        """The text without the secrets."""
        pattern = _pattern(self._secrets())
        return pattern.sub(MASK, text) if pattern else text

    def is_in(self, text: str) -> bool:
        """Whether the text holds a secret."""
        pattern = _pattern(self._secrets())
        return pattern is not None and pattern.search(text) is not None

    def pieces(self) -> Pieces:
        """The same for text that arrives in pieces, each of which may hold part of a secret."""
        return Pieces(self, self._secrets())

    def _secrets(self) -> tuple[str, ...]:
        return tuple(sorted({one for one in self._read() if len(one) >= _SHORTEST}))


class Pieces:
    """Passes on text piece by piece, and holds back an end that may be the start of a secret."""

    def __init__(self, redact: Redactor, secrets: tuple[str, ...]) -> None:
        self._redact = redact
        self._needles = tuple(one.lower() for secret in secrets for one in (secret, *_cores(secret)))
        self._longest = max((len(one) for one in self._needles), default=0)
        self._held = ""

    def feed(self, piece: str) -> str:
        """Add a piece, and return the text that can be shown now."""
        text = self._redact(self._held + piece)
        kept = self._unsure(text.lower())
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def end(self) -> str:
        """The text that was held back."""
        held, self._held = self._held, ""
        return held

    def _unsure(self, text: str) -> int:
        for size in range(min(len(text), self._longest), 0, -1):
            if any(needle.startswith(text[-size:]) for needle in self._needles):
                return size
        return 0


@lru_cache(maxsize=16)
def _needles(secrets: tuple[str, ...]) -> tuple[str, ...]:
    found = {form for secret in secrets for form in _forms(secret)}
    return tuple(sorted(found, key=len, reverse=True))


@lru_cache(maxsize=16)
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str] | None:
    needles = _needles(secrets)
    if not needles:
        return None
    parts = [re.escape(one) if len(one) >= _LONG else rf"(?<!\w){re.escape(one)}(?!\w)" for one in needles]
    return re.compile("|".join(parts), re.IGNORECASE)


def _forms(secret: str) -> set[str]:
    if len(secret) < _LONG:
        return {secret}
    raw = secret.encode("utf-8", "surrogateescape")
    forms = {secret, html.escape(secret), json.dumps(secret)[1:-1], raw.hex()}
    forms |= {quote(raw), quote(raw, safe=""), quote_plus(raw), "".join(f"%{one:02x}" for one in raw)}
    return {one for one in forms | _cores(secret) if len(one) >= _LONG}


def _cores(secret: str) -> set[str]:
    """The secret in base64, at any position in the encoded text."""
    raw = secret.encode("utf-8", "surrogateescape")
    encodings = (base64.b64encode, base64.urlsafe_b64encode)
    found = {_core(encode, raw, offset) for encode in encodings for offset in range(3)}
    return {one for one in found if len(one) >= _LONG}


def _core(encode: Callable[[bytes], bytes], raw: bytes, offset: int) -> str:
    """The base64 characters of `raw` at this offset (modulo 3) in any text, without those at either end that depend on
    the bytes around it.
    """
    text = encode(b"\0" * offset + raw).decode().rstrip("=")
    start = (0, 2, 3)[offset]
    return text[start : len(text) - bool((offset + len(raw)) % 3)]
