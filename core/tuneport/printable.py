"""Makes text from outside safe to show: characters that control a terminal or hide text become escapes."""

from __future__ import annotations

import re

from tuneport.doors import AUTHORS, public

# Controls (C0 without tab and newline, DEL, C1), characters that reorder text or have no width, fillers that look like
# a space, tags, and lone surrogates, which no encoding accepts.
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
# A joiner belongs between two letters of a joining script, or two emoji. Anywhere else it only hides.
_JOINER, _JOINED = "[\u200c\u200d]", "[^\x00-\x7f\u200c\u200d]"
_STRAY_JOINER = f"(?<!{_JOINED}){_JOINER}|{_JOINER}(?!{_JOINED})"
_TEXT = re.compile(f"[{_HIDDEN}]|{_STRAY_JOINER}")
_LINE = re.compile(f"[\t\n{_HIDDEN}]|{_STRAY_JOINER}")
_IN_JSON = re.compile(f"[{_HIDDEN}\u200c\u200d]")  # in JSON, an escape means the same character
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def visible(text: str) -> str:
    r"""The text with its lines and tabs, and every unsafe character as an escape.

    >>> print(visible("\x1b[2J\nred\u202e"))
    \x1b[2J
    red\u202e
    """
    return _TEXT.sub(_escape, text)


@public(AUTHORS)
def one_line(text: str) -> str:
    r"""The same for one line, such as a name: a line break or tab becomes an escape too.

    >>> print(one_line("a\nb"))
    a\nb
    """
    return _LINE.sub(_escape, text)


def visible_json(text: str) -> str:
    r"""Equivalent JSON text, with unsafe characters as JSON escapes.

    >>> print(visible_json('{"name": "\x9b31m"}'))
    {"name": "\u009b31m"}
    """
    return _IN_JSON.sub(_json_escape, text)


class Stream:
    """Makes text safe that arrives in pieces. A joiner is held back until the characters on both sides are known."""

    def __init__(self) -> None:
        self._before = ""
        self._held = ""

    def feed(self, piece: str) -> str:
        """The text that can be shown now."""
        text = self._held + piece
        complete = text.rstrip("\u200c\u200d")
        self._held = text[len(complete) :]
        return self._escape(complete)

    def end(self) -> str:
        """The text that was held back."""
        held, self._held = self._held, ""
        return self._escape(held)

    def _escape(self, text: str) -> str:
        # Joiners from an earlier piece start this text. The character before them decides whether they are safe.
        shown = visible(self._before + text)[len(self._before) :]
        if text:
            last = text[-1]
            self._before = last if last not in "\u200c\u200d" and visible(last) == last else ""
        return shown


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
