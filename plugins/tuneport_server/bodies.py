"""Bodies read as they stream: counted, bounded, and never waited for without end."""

from __future__ import annotations

import asyncio
import os
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from tuneport_server.network.patience import patience
from tuneport_server.settings import Limits
from tuneport_server.wire import WireError, bad, decode

_FIELD_BYTES = 64 * 1024
_PARTS = 64
_HEADERS = 16
# A body without a type, or with what curl calls one whose type it was not told, is JSON too: the vendor's own recipes
# send it so. No page can make a browser send either here with a token.
_JSON_KINDS = ("application/json", "application/x-www-form-urlencoded", "")
_DRAIN_BYTES = 64 * 2**20  # read on and thrown away, so that the sender gets to see why it was refused


async def read_json(request: Request, limits: Limits, *, empty: bool = False) -> dict[str, Any]:
    """The JSON object of a request's body; `empty` is what takes no body for an empty object. Raises WireError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body, message = bytearray(), f"The body is larger than {limits.json_bytes:,} bytes."
    _check_announced(request, limits.json_bytes, message)
    async for chunk in _chunks(request, limits):
        body += chunk
        if len(body) > limits.json_bytes:
            raise await _too_large(request, limits, message)
    if not body and empty:
        return {}
    if kind not in _JSON_KINDS:
        raise bad("Send the body as application/json.", code="invalid_content_type")
    return decode(bytes(body))


async def read_fields(request: Request, limits: Limits) -> dict[str, str]:
    """The fields of a form of our own page. Raises WireError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await read_form_body(request, limits)
    if kind != "application/x-www-form-urlencoded":
        raise bad("This is not the page's form.", code="invalid_content_type")
    return form_fields(body)


def form_fields(body: bytes) -> dict[str, str]:
    """The fields of a form of our own page, from its bytes. Raises WireError."""
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=32))
    except ValueError as error:
        raise bad("This is not the page's form.", code="invalid_form") from error


async def read_form_body(request: Request, limits: Limits) -> bytes:
    """The bytes of a form of our own page, which is small and comes at once. Raises WireError."""
    body = bytearray()
    async for chunk in _chunks(request, limits, limits.head_seconds):
        body += chunk
        if len(body) > _FIELD_BYTES:  # not read on: anybody may send this
            message = f"The form is larger than {_FIELD_BYTES:,} bytes."
            raise WireError(413, message, code="too_large", headers={"connection": "close"})
    return bytes(body)


@dataclass(slots=True)
class Form:
    """A multipart body: its short fields, and its one file, which lies at `path`. The file's name is only a name."""

    fields: dict[str, str] = field(default_factory=dict)
    path: Path | None = None
    filename: str = ""
    size: int = 0
    lines: int = 0


async def read_form(
    request: Request, folder: Path, limits: Limits, room: int, *, field: str = "file", most: int | None = None
) -> Form:
    """A multipart body, its file (the part called `field`, of at most `most` bytes, else the limit of files) written to
    a new one in `folder` and flushed to the disk; `room` is how many bytes the owner may still have. Raises WireError,
    and leaves no file then.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 256:
        raise bad("Send the body as multipart/form-data.", code="invalid_content_type")
    most = most or limits.file_bytes
    _check_announced(request, most + _PARTS * _FIELD_BYTES, _larger(most))
    parts = _Parts(folder, limits, room, field, most)
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]  # its TypedDict wants literal keys
        async for chunk in _chunks(request, limits):
            parser.write(chunk)
        parser.finalize()
        form = parts.done()
        if form.path is not None:
            await asyncio.to_thread(_flush, form.path)
        return form
    except BaseException as error:
        parts.discard()
        if isinstance(error, FormParserError | UnicodeDecodeError):
            raise bad("The multipart body is broken.", code="invalid_multipart") from error
        if isinstance(error, WireError) and error.status == 413:
            raise await _too_large(request, limits, error.message) from error
        raise


class _Parts:
    """What the multipart parser calls, piece by piece."""

    def __init__(self, folder: Path, limits: Limits, room: int, field: str, most: int) -> None:
        self._folder, self._limits, self._room = folder, limits, room
        self._field, self._most = field, most
        self._form = Form()
        self._file: Any = None
        self._parts = 0
        self._ended = False
        self._headers: list[tuple[bytearray, bytearray]] = []
        self._name = ""
        self._value = bytearray()

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_header_begin": self._header,
            "on_header_field": lambda data, start, end: self._header_text(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._header_text(1, data[start:end]),
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }

    def done(self) -> Form:
        if not self._ended:
            raise bad("The multipart body ends too early.", code="invalid_multipart")
        return self._form

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._form.path is not None:
            self._form.path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _PARTS:
            raise bad(f"The form has more than {_PARTS} parts.", code="invalid_multipart")
        self._headers, self._value = [], bytearray()

    def _header(self) -> None:
        if len(self._headers) == _HEADERS:
            raise bad(f"A part has more than {_HEADERS} headers.", code="invalid_multipart")
        self._headers.append((bytearray(), bytearray()))

    def _header_text(self, which: int, data: bytes) -> None:
        text = self._headers[-1][which]
        text += data
        if len(text) > 8192:
            raise bad("A part's header is too long.", code="invalid_multipart")

    def _headers_finished(self) -> None:
        said = {bytes(name).lower(): bytes(value) for name, value in self._headers}
        kind, options = parse_options_header(said.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode()
        if kind != b"form-data" or not self._name:
            raise bad("A part says no name.", code="invalid_multipart")
        if b"filename" not in options and not (self._name == self._field == "data"):  # a part needs no name of a file
            if self._name in self._form.fields:
                raise bad(f"{self._name[:64]}: is given twice.", self._name[:64], "invalid_multipart")
            return
        if self._form.path is not None or self._name != self._field:
            raise bad(f"Send one file, in the part called {self._field}.", self._field, "invalid_multipart")
        self._form.filename = plain_name(options.get(b"filename", b"").decode())
        self._form.path = self._folder / uuid.uuid4().hex
        self._file = os.fdopen(os.open(self._form.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is None:
            self._value += data[start:end]
            if len(self._value) > _FIELD_BYTES:
                raise bad(f"{self._name[:64]}: is too long.", self._name[:64], "invalid_multipart")
            return
        form, limits = self._form, self._limits
        form.size += end - start
        form.lines += data.count(b"\n", start, end)
        if form.size > self._most:
            raise WireError(413, _larger(self._most))
        if form.lines > limits.file_rows:
            raise WireError(413, f"The file has more than {limits.file_rows:,} lines.")
        if form.size > self._room:
            raise WireError(413, "There is no room for the file beside those that are here. Delete some first.")
        try:
            self._file.write(data[start:end])
        except OSError as error:
            raise WireError(413, f"The file could not be kept: {error.strerror}.") from error

    def _end(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()
        elif self._name != self._field or self._form.path is None:
            self._form.fields[self._name] = self._value.decode()

    def _all(self) -> None:
        self._ended = True


async def _chunks(request: Request, limits: Limits, seconds: int | None = None) -> AsyncIterator[bytes]:
    """The body as it comes. Its sender may be waited for `seconds` in all, `limits.body_seconds` when absent, and has
    to keep the least rate; the time that the server takes to work does not count.
    """
    stream, clock = aiter(request.stream()), asyncio.get_running_loop().time
    most = seconds or limits.body_seconds
    received, waited = 0, 0.0
    while True:
        left = min(most, patience(received, min(most, limits.silence_seconds), limits.least_rate)) - waited
        began = clock()
        try:
            async with asyncio.timeout(max(0.0, min(left, limits.silence_seconds))):  # unlike wait_for, without a task
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            message = "The body did not come, or came too slowly."
            raise WireError(408, message, code="request_timeout", headers={"connection": "close"}) from None
        except ClientDisconnect:
            raise WireError(400, "The request was broken off.") from None
        waited += clock() - began
        received += len(chunk)
        yield chunk


def _check_announced(request: Request, most: int, message: str) -> None:
    """Refuse a body that is too large before it is asked for, if its sender waits to be asked. Others see an answer
    only once they have sent it.
    """
    length = request.headers.get("content-length", "")
    if "expect" in request.headers and length.isdecimal() and int(length) > most:
        raise WireError(413, message, code="too_large", headers={"connection": "close"})


def _larger(most: int) -> str:
    return f"The file is larger than {most:,} bytes."


async def _too_large(request: Request, limits: Limits, message: str) -> WireError:
    thrown = 0
    try:
        async with asyncio.timeout(limits.silence_seconds):
            async for chunk in _chunks(request, limits):
                thrown += len(chunk)
                if thrown > _DRAIN_BYTES:
                    break
    except (TimeoutError, WireError, RuntimeError):
        pass  # the sender has gone, or will not see more than a closed connection
    return WireError(413, message, code="too_large", headers={"connection": "close"})


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def plain_name(name: str) -> str:
    """A file's name as people see it: no folders, nothing that steers a terminal, 255 characters at most."""
    name = re.sub(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", "", name)
    return re.split(r"[\\/]", name)[-1][:255] or "file.jsonl"
