"""Limits for an HTTP client (httpx or httpx2): decompressed bytes, total time, and the content of texts.

It works below the client's own decoding, so that a compressed response is decompressed within the limits, and each
text is cleaned before other code sees it.
"""

from __future__ import annotations

import importlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from tuneport.doors import AUTHORS, public
from tuneport.errors import BackendError
from tuneport.services.cleaning import clean, replace_surrogates
from tuneport.services.deadlines import bound_time
from tuneport.services.secrets import Redactor

_MIB = 2**20
_CHUNK = 65536
_MOST_VALUES = 1_000_000  # of one JSON text: small values take far more memory than text
_DROPPED = frozenset({"content-encoding", "content-length", "transfer-encoding", "set-cookie", "content-type"})
_MOST_EVENTS = 200_000  # of one stream, usually one per token
_ASKED = "gzip, deflate"  # what is decompressed here; the client would accept more


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseLimits:
    """The most decompressed bytes of a JSON response, an error response (the rest is cut off), a stream, a line of a
    stream, and a file.
    """

    body: int = 16 * _MIB
    error: int = 64 * 1024
    stream: int = 32 * _MIB
    line: int = _MIB
    file: int = 64 * _MIB


@public(AUTHORS)
def guard(
    client: Any,
    name: str,
    redact: Redactor,
    *,
    is_file: Callable[[Any], bool] = lambda _: False,
    limits: ResponseLimits | None = None,
    largest_file: int | None = None,
) -> Callable[[], None]:
    """Apply the limits to everything that a client of httpx or httpx2 receives. Returns a function that removes them.

    `name` is the name of the service, for messages. `is_file` returns whether the response to a request is a file,
    which is passed on unchanged, up to `largest_file` bytes if given. A response over a limit raises BackendError; one
    that takes too long raises the library's ReadTimeout.
    """
    bounds = limits or ResponseLimits()
    if largest_file is not None:
        bounds = replace(bounds, file=largest_file)
    kind = _guard_class(_library_of(client))
    before = client._transport, dict(client._mounts)  # noqa: SLF001 - `transport=` would ignore proxies from the environment

    def wrap(inner: Any) -> Any:
        return None if inner is None else kind(inner, name, redact, is_file, bounds)

    client._transport = wrap(client._transport)  # noqa: SLF001 - as above
    client._mounts = {pattern: wrap(one) for pattern, one in client._mounts.items()}  # noqa: SLF001 - as above

    def remove() -> None:
        client._transport, client._mounts = before  # noqa: SLF001 - as above

    return remove


def _library_of(client: Any) -> str:
    return next(one.__module__ for one in type(client).__mro__ if one.__name__ == "Client").partition(".")[0]


@cache
def _guard_class(library: str) -> type[Any]:
    """The transport class for one of the two libraries, which check its base class."""
    http = importlib.import_module(library)

    class Body(http.SyncByteStream):  # type: ignore[misc,name-defined]  # the library is chosen at run time
        def __init__(self, pieces: Iterator[bytes], close: Callable[[], None]) -> None:
            self._pieces = pieces
            self._close = close

        def __iter__(self) -> Iterator[bytes]:
            return self._pieces

        def close(self) -> None:
            self._close()

    class Guarded(http.BaseTransport):  # type: ignore[misc,name-defined]  # as above
        def __init__(
            self, inner: Any, name: str, redact: Redactor, is_file: Callable[[Any], bool], limits: ResponseLimits
        ) -> None:
            self._inner = inner
            self._reader = _Reader(name, redact, limits)
            self._is_file = is_file
            bound_time(inner)

        def handle_request(self, request: Any) -> Any:
            # Request files uncompressed: a resumed download counts the bytes of the file, not of its encoding.
            request.headers["Accept-Encoding"] = "identity" if self._is_file(request) else _ASKED
            raw = self._inner.handle_request(request)
            facts = self._reader.facts(raw)
            if request.method == "HEAD":
                facts["headers"] += [(k, v) for k, v in raw.headers.items() if k.lower() == "content-length"]
                return http.Response(raw.status_code, stream=raw.stream, **facts)
            if raw.is_success and self._is_file(request):
                return http.Response(raw.status_code, stream=Body(self._reader.file(raw), raw.close), **facts)
            if raw.is_success and facts["headers"][-1:] == [("content-type", "text/event-stream")]:
                pieces = self._reader.events(raw, facts["extensions"])
                return http.Response(raw.status_code, stream=Body(pieces, raw.close), **facts)
            try:
                content = self._reader.body(raw) if raw.is_success else self._reader.error(raw)
            finally:
                raw.close()
            return http.Response(raw.status_code, content=content, **facts)

        def close(self) -> None:
            self._inner.close()

    return Guarded


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads raw responses within the limits, and cleans them."""

    name: str
    redact: Redactor
    limits: ResponseLimits

    def facts(self, raw: Any) -> dict[str, Any]:
        """The cleaned headers and extensions. The content type is the last header."""
        kept = [(k, self._line(v)) for k, v in raw.headers.multi_items() if k.lower() not in _DROPPED]
        headers = [(k, v) for k, v in kept if not self.redact.is_in(k)]
        content_type = raw.headers.get("content-type")
        if content_type is not None:
            headers.append(("content-type", self._line(content_type).partition(";")[0].strip().lower()))
        reason = self._line(raw.extensions.get("reason_phrase", b"").decode("latin-1"))
        extensions = {**raw.extensions, "reason_phrase": reason.encode("ascii", "replace"), "ended": []}
        return {"headers": headers, "extensions": extensions}

    def body(self, raw: Any) -> bytes:
        """A complete body. JSON is parsed, cleaned and serialized again; anything else is cleaned as text."""
        content = b"".join(self._limit(raw, self.limits.body))
        if sum(map(content.count, (b",", b"[", b"{"))) > _MOST_VALUES:
            raise self._error("has more than a million values")
        try:
            return self._json(content)
        except RecursionError:
            raise self._error("is nested too deeply") from None
        except ValueError as error:
            if "nested too deeply" in str(error):
                raise self._error("is nested too deeply") from None
            return self._text(content)

    def error(self, raw: Any) -> bytes:
        """The start of the body of an error response, whatever it holds and however it ends."""
        content = b""
        with suppress(Exception):  # however it breaks off, the status and the text before are known
            for piece in self._limit(raw, self.limits.error * 2):
                content += piece
                if len(content) >= self.limits.error:
                    break
        try:
            return self._json(content)
        except (ValueError, RecursionError):
            return self._text(content[: self.limits.error])

    def file(self, raw: Any) -> Iterator[bytes]:
        """The bytes of a file."""
        yield from self._limit(raw, self.limits.file)

    def events(self, raw: Any, extensions: dict[str, Any]) -> Iterator[bytes]:
        """Server-sent events, line by line. `extensions["ended"]` is filled when the server sends the end marker."""
        left, is_open = b"", False  # whether an event is open; a blank line ends it
        count = 0
        for piece in self._limit(raw, self.limits.stream):
            *lines, left = (left + piece).split(b"\n")
            if len(left) > self.limits.line:
                raise self._error(f"has a line of more than {self.limits.line:,} bytes")
            for line in lines:
                line = line.rstrip(b"\r")  # noqa: PLW2901 - the same line
                # Comments, and blank lines around them, only keep the connection alive.
                if (line or is_open) and not line.startswith(b":"):
                    is_open = bool(line)
                    count += is_open
                    if count > _MOST_EVENTS:
                        raise self._error(f"has more than {_MOST_EVENTS:,} events")
                    yield self._event_line(line, extensions) + b"\n"
        if left:
            yield self._event_line(left, extensions) + b"\n"

    def _event_line(self, line: bytes, extensions: dict[str, Any]) -> bytes:
        head, colon, value = line.partition(b":")
        if head != b"data":
            return self._text(line)
        if value.strip() == b"[DONE]":
            extensions["ended"].append(True)
            return line
        try:
            return head + colon + b" " + self._json(value)
        except (ValueError, RecursionError):
            return self._text(line)

    def _limit(self, raw: Any, most: int) -> Iterator[bytes]:
        size = 0
        for piece in self._decompress(raw, most):
            size += len(piece)
            if size > most:
                raise self._error(f"is larger than {most:,} bytes")
            yield piece

    def _decompress(self, raw: Any, most: int) -> Iterator[bytes]:
        encoding = raw.headers.get("content-encoding", "").strip().lower()
        if encoding in ("", "identity"):
            yield from raw.stream
            return
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise self._error(f"is encoded as {self._line(encoding)[:40]!r}, which was not requested")
        try:
            yield from _inflate(raw.stream, most)
        except (zlib.error, EOFError) as error:
            raise self._error(f"cannot be decompressed: {error}") from None

    def _json(self, content: bytes) -> bytes:
        return json.dumps(clean(json.loads(content), self.redact)).encode()

    def _text(self, content: bytes) -> bytes:
        return self.redact(content.decode("utf-8", "replace")).encode()

    def _line(self, text: str) -> str:
        shown = "".join(one if one.isprintable() else "\ufffd" for one in replace_surrogates(text))
        return self.redact(shown).encode("ascii", "replace").decode()

    def _error(self, why: str) -> BackendError:
        return BackendError(
            f"{self.name} sent a response that {why}.",
            remedy="Try again. If it happens again, the server or a proxy in front of it is faulty.",
        )


def _inflate(stream: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Decompress gzip, zlib and raw deflate in limited pieces. Raises zlib.error, or EOFError if the data is
    truncated.
    """
    decoder, received, produced = zlib.decompressobj(zlib.MAX_WBITS | 32), 0, 0
    for piece in stream:
        rest, first = piece, not received
        received += len(piece)
        if received > most:
            raise EOFError(f"more than {most:,} bytes were received")
        while rest and not decoder.eof:
            try:
                out = decoder.decompress(rest, _CHUNK)
            except zlib.error:
                if not first or produced:
                    raise
                decoder = zlib.decompressobj(-zlib.MAX_WBITS)
                out = decoder.decompress(rest, _CHUNK)
            rest, first = decoder.unconsumed_tail, False
            produced += len(out)
            if out:
                yield out
        if decoder.eof:
            return
    if received:
        raise EOFError("it is truncated")
