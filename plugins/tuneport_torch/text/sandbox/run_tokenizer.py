"""Run a tokenizer in a process with limits: a tokenizer.json comes with a model and can be hostile.

Its regular expressions can run for days, its replacements can multiply a text, and the library can panic. Runs as a
script, started by tokenizer.py, and imports only tokenizers, msgspec and the standard library. Requests and answers are
MessagePack, framed as in child_process.py. The process ends with its input.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

# Private-use characters around a control token's text in a row: see codec.Codec.quote.
OPEN, CLOSE = "\ue0f0", "\ue0f1"
_QUOTED = re.compile(f"{OPEN}(.*?){CLOSE}", re.DOTALL)

_TOKENS_PER_BYTE = 4  # real tokenizers make up to one; with Unicode's compatibility forms, a few more
_TOKENS = 256
_CHARACTERS_PER_TOKEN = 4096
_LOAD_BYTES = 192 * 2**20, 16  # of memory, and per byte of tokenizer.json
_MOST_BYTES = 448 * 2**20  # of memory in all, without that for the text: the largest real tokenizer takes 424 MB
_WORK_BYTES = 192 * 2**20, 400  # of memory, and per byte of text
_LOAD_SECONDS = 3.0, 1e-6  # of processor time, and per byte
_WORK_SECONDS = 3.0, 20e-6
_STEPS_BYTES = 2**16  # of a normalizer or pre-tokenizer: real ones have a few kilobytes
_MERGES = 2**20  # twice those of the largest real tokenizer


class TooLong(Exception):  # noqa: N818 - names the condition
    """A text became more tokens, or tokens more text, than with any real tokenizer."""


class _Model(msgspec.Struct):
    """A byte-level BPE without its vocabulary, as the library writes it."""

    merges: list[tuple[str, str]]


class Tokenizer:
    """The library's tokenizer with the requests that the parent sends."""

    def __init__(self, source: bytes) -> None:
        from tokenizers import Tokenizer as Library

        self._library: Any = Library.from_buffer(source)
        self._library.no_truncation()
        self._library.no_padding()
        self._start = self._library.encode("", add_special_tokens=True).ids
        # Added tokens at the start and trimmed offsets come from the post-processor; neither is wanted.
        self._library.post_processor = None

    def facts(self, texts: Sequence[str]) -> tuple[list[tuple[int, str, bool]], list[int | None], list[int]]:
        """The added tokens (id, text, whether it is a control token), the id of each text, and the tokens before
        text.
        """
        added = self._library.get_added_tokens_decoder()
        tokens = [(number, token.content, token.special) for number, token in added.items()]
        return tokens, [self._library.token_to_id(text) for text in texts], self._start[:8]

    def encode(self, texts: Sequence[str]) -> list[tuple[bytes, bytes]]:
        """The ids of each text and the characters [start, end) that each stands for, as 32-bit numbers."""
        plain = [text for text in texts if OPEN not in text]
        encoded = iter(self._library.encode_batch(plain, add_special_tokens=False))
        both = (self._encode_quoted(text) if OPEN in text else _ids_and_spans(text, next(encoded)) for text in texts)
        return [(array("I", ids).tobytes(), array("I", chain.from_iterable(spans)).tobytes()) for ids, spans in both]

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has."""
        if any(OPEN in text for text in texts):
            return [len(ids) // array("I").itemsize for ids, _ in self.encode(texts)]
        encoded = self._library.encode_batch_fast(texts, add_special_tokens=False)
        return [_check_count(text, len(one)) for text, one in zip(texts, encoded, strict=True)]

    def decode(self, ids: Sequence[int], keep_control: bool) -> str:
        """The text of ids."""
        text: str = self._library.decode(ids, skip_special_tokens=not keep_control)
        if len(text) > _CHARACTERS_PER_TOKEN * (1 + len(ids)):
            raise TooLong(f"{len(ids):,} tokens became {len(text):,} characters")
        return text

    def vocabulary(self) -> list[bytes]:
        """The bytes that each token stands for, by id; several tokens may share one character."""
        added = self._library.get_added_tokens_decoder()
        made = self._library.decoder
        decoder = json.loads(made.__getstate__()) if made is not None else {}
        kinds = {decoder.get("type"), *(one.get("type") for one in decoder.get("decoders", ()))}
        tokens = [b""] * self._library.get_vocab_size()
        for token, number in self._library.get_vocab().items():
            if number < len(tokens):
                tokens[number] = _bytes_of(token, number in added, "ByteLevel" in kinds)
        return tokens

    def steps(self) -> dict[str, Any]:
        """The parts of tokenizer.json that define how text is read, without vocabulary and merges."""
        model = self._library.model
        options = {name: getattr(model, name, None) for name in _MODEL_OPTIONS}
        parts = {name: _steps(name, getattr(self._library, name)) for name in ("normalizer", "pre_tokenizer")}
        return {"model": {"type": type(model).__name__, **options}, **parts}

    def pieces(self, rows: int) -> tuple[int, list[str | None], list[str]]:
        """The highest id, the tokens by id, and the merges in order; no tokens if the highest id is beyond `rows`."""
        ids = self._library.get_vocab()
        most = max(ids.values(), default=-1)
        if most >= rows:
            return most, [], []
        tokens: list[str | None] = [None] * (most + 1)
        for token, number in ids.items():
            tokens[number] = token
        merges = msgspec.json.decode(self._library.model.__getstate__(), type=_Model).merges
        if len(merges) > _MERGES:
            raise TooLong(f"it has {len(merges):,} merges; at most {_MERGES:,} are read")
        return most, tokens, [" ".join(pair) for pair in merges]

    def _encode_quoted(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokenize piece by piece: only a text with a quoted control token, which is rare, needs that."""
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        try:
            for number, (start, end) in enumerate(_pieces(text)):
                self._library.encode_special_tokens = bool(number % 2)  # then control tokens are ordinary text
                piece = self._library.encode(text[start:end], add_special_tokens=False)
                ids += piece.ids
                spans += [(start + left, start + right) for left, right in piece.offsets]
                _check_count(text, len(ids))
        finally:
            self._library.encode_special_tokens = False
        return ids, spans


_MODEL_OPTIONS = ("byte_fallback", "continuing_subword_prefix", "ignore_merges")


def _steps(name: str, part: Any) -> Any:
    if part is None:
        return None
    raw = part.__getstate__()
    if len(raw) > _STEPS_BYTES:
        raise TooLong(f"its {name} has {len(raw):,} bytes; at most {_STEPS_BYTES:,} are read")
    return json.loads(raw)


def _byte_letters() -> dict[str, int]:
    """The byte for each letter of a byte-level vocabulary: printable ones stand for themselves."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [one for one in range(256) if one not in shown]
    return {chr(one): one for one in shown} | {chr(256 + place): one for place, one in enumerate(hidden)}


_LETTERS = _byte_letters()


def _bytes_of(token: str, added: bool, byte_level: bool) -> bytes:
    if added:
        return token.encode("utf-8", "replace")
    if byte_level:
        return bytes(_LETTERS[one] for one in token if one in _LETTERS)
    byte = re.fullmatch(r"<0x([0-9A-F]{2})>", token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("\u2581", " ").encode("utf-8", "replace")


def _ids_and_spans(text: str, encoding: Any) -> tuple[list[int], list[tuple[int, int]]]:
    _check_count(text, len(encoding))
    return encoding.ids, encoding.offsets


def _check_count(text: str, count: int) -> int:
    size = 4 * len(text) if count > len(text) else len(text)  # a character has up to 4 bytes
    if count > _TOKENS + _TOKENS_PER_BYTE * size:
        raise TooLong(f"{len(text):,} characters became {count:,} tokens")
    return count


def _pieces(text: str) -> list[tuple[int, int]]:
    """The spans between marks: ordinary, quoted, ordinary, … The marks themselves are in none."""
    found, at = [], 0
    for match in _QUOTED.finditer(text):
        found += [(at, match.start()), match.span(1)]
        at = match.end()
    return [*found, (at, len(text))]


@contextmanager
def resource_limits(
    memory: tuple[float, float], seconds: tuple[float, float], size: int, most: float = float("inf")
) -> Iterator[None]:
    """Let the kernel end this process if the block takes more processor time or memory than its input explains.

    `size` is that of the input in bytes. Memory counts from what is in use now; `most` limits the part that does not
    depend on the size.
    """
    _limit_memory(memory[0], most, memory[1] * size)
    signal.setitimer(signal.ITIMER_PROF, seconds[0] + seconds[1] * size)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit_memory(more: float, most: float, explained: float) -> None:
    try:
        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    except OSError:
        return  # not Linux: the limit on time still holds
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = int(min(used + more, most) + explained)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))


def confine() -> None:
    """Give up what tokenizing does not need: files, processes and core dumps. Threads are started before."""
    from tokenizers import Tokenizer as Library
    from tokenizers import models

    Library(models.BPE()).encode_batch(["", ""])  # starts the library's threads
    for what in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NPROC):
        try:
            resource.setrlimit(what, (0, 0))
        except (ValueError, OSError):
            continue  # a platform without that limit still has the others


def serve() -> None:
    """Read the texts whose ids are wanted and a tokenizer.json, then answer requests: a verb and its arguments."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    confine()
    texts = msgspec.msgpack.decode(_read(), type=list[str])
    made: list[Tokenizer] = []
    _write(_load(_read(), texts, made))
    while made and (message := _read()):
        with resource_limits(_WORK_BYTES, _WORK_SECONDS, len(message), _MOST_BYTES):
            verb, *given = msgspec.msgpack.decode(message)
            reply = _try(partial(getattr(made[0], verb), *given))  # encode, count, decode …
        _write(reply)


def _load(source: bytes, texts: Sequence[str], made: list[Tokenizer]) -> bytes:
    """The facts of a tokenizer.json, whose tokenizer is put into `made`."""

    def load() -> Any:
        made.append(Tokenizer(source))
        return made[0].facts(texts)

    more = _LOAD_BYTES[0] + _LOAD_BYTES[1] * len(source)
    with resource_limits((more, 0), _LOAD_SECONDS, len(source), _MOST_BYTES):
        return _try(load)


def _try(work: Callable[[], Any]) -> bytes:
    """(Whether it worked, the result or the reason), encoded."""
    try:
        return msgspec.msgpack.encode((True, work()))
    except BaseException as error:  # noqa: BLE001 - the library's panics are no Exception; all of them are answers
        return msgspec.msgpack.encode((False, f"{type(error).__name__}: {error!s:.500}"))


def _read() -> bytes:
    return sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(8), "little"))


def _write(message: bytes) -> None:
    sys.stdout.buffer.write(len(message).to_bytes(8, "little"))
    sys.stdout.buffer.write(message)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
