"""The bounds under an HTTP client (httpx, or httpx2): expanded bytes, total time, and what texts may hold.

It works below the client's own decoding, so that a compressed answer is expanded within the bounds and each text is
cleaned before any other code sees it.
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
from tuneport.services.cleaning import clean, unpaired
from tuneport.services.deadlines import bound_time
from tuneport.services.secrets import Redactor

_MIB = 2**20
_CHUNK = 65536
_MOST_VALUES = 1_000_000  # of one JSON text: small values take many times their size as text
_DROPPED = frozenset({"content-encoding", "content-length", "transfer-encoding", "set-cookie", "content-type"})
_MOST_EVENTS = 200_000  # of one stream: a token each, and none for answers of that length
_ASKED = "gzip, deflate"  # what is expanded here; the client would ask for more


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most bytes, expanded, of a JSON answer, a refusal (the rest is cut off), a stream, a line in it, a file."""

    answer: int = 16 * _MIB
    refusal: int = 64 * 1024
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
    limits: Limits | None = None,
    largest_file: int | None = None,
) -> Callable[[], None]:
    """Hold everything that a client of httpx or httpx2 receives to the limits. Returns what takes the guard off again.

    `name` is the service's, for messages. `is_file` tells requests whose answer is a file: it is bounded, by
    `largest_file` bytes where that is given, and passed on as it is. An answer over a limit raises BackendError; one
    that takes too long, the library's ReadTimeout.
    """
    bounds = limits or Limits()
    if largest_file is not None:
        bounds = replace(bounds, file=largest_file)
    kind = _guard_class(_library_of(client))
    before = client._transport, dict(client._mounts)  # noqa: SLF001 - `transport=` would end the use of proxies from the environment

    def wrapped(inner: Any) -> Any:
        return None if inner is None else kind(inner, name, redact, is_file, bounds)

    client._transport = wrapped(client._transport)  # noqa: SLF001 - as above
    client._mounts = {pattern: wrapped(one) for pattern, one in client._mounts.items()}  # noqa: SLF001 - as above

    def take_off() -> None:
        client._transport, client._mounts = before  # noqa: SLF001 - as above

    return take_off


def _library_of(client: Any) -> str:
    return next(one.__module__ for one in type(client).__mro__ if one.__name__ == "Client").partition(".")[0]


@cache
def _guard_class(library: str) -> type[Any]:
    """The transport for one of the two libraries, whose base classes they check."""
    http = importlib.import_module(library)

    class Body(http.SyncByteStream):  # type: ignore[misc,name-defined]  # the library is chosen when it runs
        def __init__(self, pieces: Iterator[bytes], close: Callable[[], None]) -> None:
            self._pieces = pieces
            self._close = close

        def __iter__(self) -> Iterator[bytes]:
            return self._pieces

        def close(self) -> None:
            self._close()

    class Guarded(http.BaseTransport):  # type: ignore[misc,name-defined]  # as above
        def __init__(
            self, inner: Any, name: str, redact: Redactor, is_file: Callable[[Any], bool], limits: Limits
        ) -> None:
            self._inner = inner
            self._answer = _Answer(name, redact, limits)
            self._is_file = is_file
            bound_time(inner)

        def handle_request(self, request: Any) -> Any:
            # A file is asked for as it is: a download that goes on counts the bytes of the file, not of its encoding.
            request.headers["Accept-Encoding"] = "identity" if self._is_file(request) else _ASKED
            raw = self._inner.handle_request(request)
            facts = self._answer.facts(raw)
            if request.method == "HEAD":
                facts["headers"] += [(k, v) for k, v in raw.headers.items() if k.lower() == "content-length"]
                return http.Response(raw.status_code, stream=raw.stream, **facts)
            if raw.is_success and self._is_file(request):
                return http.Response(raw.status_code, stream=Body(self._answer.file(raw), raw.close), **facts)
            if raw.is_success and facts["headers"][-1:] == [("content-type", "text/event-stream")]:
                pieces = self._answer.events(raw, facts["extensions"])
                return http.Response(raw.status_code, stream=Body(pieces, raw.close), **facts)
            try:
                content = self._answer.whole(raw) if raw.is_success else self._answer.refusal(raw)
            finally:
                raw.close()
            return http.Response(raw.status_code, content=content, **facts)

        def close(self) -> None:
            self._inner.close()

    return Guarded


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is made of a raw response."""

    name: str
    redact: Redactor
    limits: Limits

    def facts(self, raw: Any) -> dict[str, Any]:
        """Headers and extensions, cleaned; the type of the content is the last header."""
        kept = [(k, self._line(v)) for k, v in raw.headers.multi_items() if k.lower() not in _DROPPED]
        headers = [(k, v) for k, v in kept if not self.redact.is_in(k)]
        told = raw.headers.get("content-type")
        if told is not None:
            headers.append(("content-type", self._line(told).partition(";")[0].strip().lower()))
        reason = self._line(raw.extensions.get("reason_phrase", b"").decode("latin-1"))
        extensions = {**raw.extensions, "reason_phrase": reason.encode("ascii", "replace"), "ended": []}
        return {"headers": headers, "extensions": extensions}

    def whole(self, raw: Any) -> bytes:
        """A body read to its end; JSON is parsed, cleaned and written again, anything else is cleaned as text."""
        content = b"".join(self._bounded(raw, self.limits.answer))
        if sum(map(content.count, (b",", b"[", b"{"))) > _MOST_VALUES:
            raise self._broken("has more than a million values")
        try:
            return self._json(content)
        except RecursionError:
            raise self._broken("is nested too deeply") from None
        except ValueError as error:
            if "nested too deeply" in str(error):
                raise self._broken("is nested too deeply") from None
            return self._text(content)

    def refusal(self, raw: Any) -> bytes:
        """The beginning of a body whose words are wanted, whatever it is and however it ends."""
        content = b""
        with suppress(Exception):  # however it breaks off, the status is known, and what came before it
            for piece in self._bounded(raw, self.limits.refusal * 2):
                content += piece
                if len(content) >= self.limits.refusal:
                    break
        try:
            return self._json(content)
        except (ValueError, RecursionError):
            return self._text(content[: self.limits.refusal])

    def file(self, raw: Any) -> Iterator[bytes]:
        """A file's bytes."""
        yield from self._bounded(raw, self.limits.file)

    def events(self, raw: Any, extensions: dict[str, Any]) -> Iterator[bytes]:
        """Server-sent events, line by line; `extensions["ended"]` is filled when the server says that it is done."""
        left, is_open = b"", False  # whether an event is open, which a blank line ends
        count = 0
        for piece in self._bounded(raw, self.limits.stream):
            *lines, left = (left + piece).split(b"\n")
            if len(left) > self.limits.line:
                raise self._broken(f"has a line of more than {self.limits.line:,} bytes")
            for line in lines:
                line = line.rstrip(b"\r")  # noqa: PLW2901 - the same line
                # Comments, and the blanks around them, keep a connection alive and say nothing.
                if (line or is_open) and not line.startswith(b":"):
                    is_open = bool(line)
                    count += is_open
                    if count > _MOST_EVENTS:
                        raise self._broken(f"has more than {_MOST_EVENTS:,} events")
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

    def _bounded(self, raw: Any, most: int) -> Iterator[bytes]:
        size = 0
        for piece in self._expanded(raw, most):
            size += len(piece)
            if size > most:
                raise self._broken(f"is larger than {most:,} bytes")
            yield piece

    def _expanded(self, raw: Any, most: int) -> Iterator[bytes]:
        encoding = raw.headers.get("content-encoding", "").strip().lower()
        if encoding in ("", "identity"):
            yield from raw.stream
            return
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise self._broken(f"is encoded as {self._line(encoding)[:40]!r}, which was not asked for")
        try:
            yield from _inflate(raw.stream, most)
        except (zlib.error, EOFError) as error:
            raise self._broken(f"cannot be expanded: {error}") from None

    def _json(self, content: bytes) -> bytes:
        return json.dumps(clean(json.loads(content), self.redact)).encode()

    def _text(self, content: bytes) -> bytes:
        return self.redact(content.decode("utf-8", "replace")).encode()

    def _line(self, text: str) -> str:
        shown = "".join(one if one.isprintable() else "\ufffd" for one in unpaired(text))
        return self.redact(shown).encode("ascii", "replace").decode()

    def _broken(self, why: str) -> BackendError:
        return BackendError(
            f"{self.name} sent an answer that {why}.",
            remedy="Try again; if it stays so, the server or something before it is broken.",
        )


def _inflate(stream: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Gzip, zlib and bare deflate, in bounded pieces. Raises zlib.error, or EOFError for what is cut short."""
    machine, came, made = zlib.decompressobj(zlib.MAX_WBITS | 32), 0, 0
    for piece in stream:
        rest, first = piece, not came
        came += len(piece)
        if came > most:
            raise EOFError(f"more than {most:,} bytes came")
        while rest and not machine.eof:
            try:
                out = machine.decompress(rest, _CHUNK)
            except zlib.error:
                if not first or made:
                    raise
                machine = zlib.decompressobj(-zlib.MAX_WBITS)
                out = machine.decompress(rest, _CHUNK)
            rest, first = machine.unconsumed_tail, False
            made += len(out)
            if out:
                yield out
        if machine.eof:
            return
    if came:
        raise EOFError("it is cut short")
