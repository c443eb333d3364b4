"""Text that is not UTF-8: guess its encoding, and read it as UTF-8."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Sequence
from typing import BinaryIO

from tuneport.errors import UsageError

_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_FEW = 3  # lines that are not UTF-8: one or two may be broken, more mean another encoding
_SHARE = 20  # one in this many lines
_SHOWN = 30  # characters of an example
_NON_ASCII = re.compile(rb"[\x80-\xff]+")
_PIECE = 1 << 16
_JAPANESE = ("shift_jis", "cp932", "euc_jp")
_KANA, _ASCII = re.compile("[\u3041-\u30fe]"), re.compile("[\x00-\x7f]")


def find_encoding(name: str) -> str | None:
    """Python's name of a text encoding, or None for UTF-8. Raises UsageError for an unknown one."""
    try:
        found = codecs.lookup(name)
        "".encode(found.name)  # a codec from bytes to bytes raises here
    except (LookupError, ValueError) as error:
        raise UsageError(
            f"{name!r} is not a text encoding.", remedy="Name one such as utf-8, latin-1, cp1252, utf-16 or shift_jis."
        ) from error
    return None if found.name == "utf-8" else found.name


def guess_encoding(head: bytes, *, complete: bool) -> tuple[str, str] | None:
    """The encoding of a file's first bytes, with an example of how they read in it; None for UTF-8.

    A few broken lines among many good ones are not another encoding. `complete`: the file ends with these bytes.
    """
    if wide := _guess_wide(head):
        return wide, _example(head.decode(wide, "ignore"))
    lines = head.split(b"\n")
    if not complete and len(lines) > 1:
        lines.pop()  # it may be cut in the middle of a character
    foreign = [line for line in lines if not _is_utf8(line)]
    if not foreign or (len(foreign) < _FEW and len(foreign) * _SHARE < len(lines)):
        return None
    if any(not line.isascii() for line in lines if line not in foreign[:_FEW] and _is_utf8(line)):
        return None
    name = _guess(foreign)
    if name is None:
        return None
    return name, next(_example(line.decode(name, "replace")) for line in foreign)


def _guess_wide(head: bytes) -> str | None:
    """UTF-16 or UTF-32, by its byte order mark or by the zero bytes of Latin letters."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = len(head) // 2
    if half and odd * 3 > half and even * 10 < odd:
        return "utf-16-le"
    return "utf-16-be" if half and even * 3 > half and odd * 10 < even else None


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _guess(lines: Sequence[bytes]) -> str | None:
    """The likely encoding of lines that are not UTF-8."""
    text = b"\n".join(lines)[:_PIECE]
    runs = _NON_ASCII.findall(text)
    short = sum(len(run) <= 2 for run in runs)  # accented letters come singly, letters of other scripts do not
    if short * 10 >= len(runs) * 9:
        if not any(0x80 <= byte < 0xA0 for byte in text):
            return "latin-1"
        try:
            text.decode("cp1252")
        except UnicodeDecodeError:
            pass
        else:
            return "cp1252"
    for name in _JAPANESE:  # kana identify these; statistics of a few lines do not
        read = text.decode(name, "replace")
        if len(_KANA.findall(read)) * 5 > len(read) - len(_ASCII.findall(read)) and "\ufffd" not in read:
            return name
    if (found := _guess_two_bytes(text)) is not None:
        return found
    from charset_normalizer import from_bytes

    best = from_bytes(text).best()
    return best.encoding if best is not None and best.encoding not in ("utf_8", "ascii") else None


def _guess_two_bytes(text: bytes) -> str | None:
    """The encoding of Chinese or Korean text with two non-ASCII bytes a character, by the range of the first bytes."""
    runs = _NON_ASCII.findall(text)
    first = [run[place] for run in runs for place in range(0, len(run) - 1, 2)]
    letters = [byte for byte in first if byte >= 0xB0]
    if sum(byte <= 0xD7 for byte in letters) * 10 < len(letters) * 7 or not letters:
        return None  # common Chinese characters start with 0xB0 to 0xD7, all Korean syllables with 0xB0 to 0xC8
    strict, name = ("euc_kr", "cp949") if max(letters) <= 0xC8 else ("gb2312", "gb18030")
    try:
        text.decode(strict)
    except UnicodeDecodeError:
        return None
    return name


def _example(text: str) -> str:
    """Some text around the first character that is not ASCII."""
    first = next((place for place, one in enumerate(text) if not one.isascii() and one != "\ufeff"), 0)
    start = max(0, first - _SHOWN // 2)
    return " ".join(text[start : start + _SHOWN].replace("\ufeff", "").split())


class Transcoding(io.RawIOBase):
    """A stream in another encoding, read as UTF-8. Undecodable bytes become U+FFFD, which a check finds."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder(encoding)("replace").decode
        self._ready = b""
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; fewer only at the end."""
        parts, held = [self._ready], len(self._ready)
        while not self._ended and (size < 0 or held < size):
            data = self._stream.read(_PIECE)
            self._ended = not data
            parts.append(self._decode(data, self._ended).encode("utf-8", "replace"))
            held += len(parts[-1])
        data = b"".join(parts)
        cut = len(data) if size < 0 else size
        self._ready = data[cut:]
        return data[:cut]

    def close(self) -> None:
        self._stream.close()
        super().close()
