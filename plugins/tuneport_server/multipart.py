"""Read multipart forms as they stream: short fields, and one file that is written to disk."""

from __future__ import annotations

import asyncio
import os
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from tuneport.plugin import sync
from tuneport_server.bodies import check_announced, chunks, too_large
from tuneport_server.limits import ResourceLimits
from tuneport_server.wire import WireError, bad

NO_ROOM = "The server has no room for the file. Delete other files first."
_FIELD_BYTES = 64 * 1024
_PARTS = 64
_HEADERS = 16


@dataclass(slots=True)
class Form:
    """A multipart body: its short fields, and its one file at `path`. `filename` is the name that the client gave."""

    fields: dict[str, str] = field(default_factory=dict)
    path: Path | None = None
    filename: str = ""
    size: int = 0
    lines: int = 0


async def read_form(
    request: Request, folder: Path, limits: ResourceLimits, room: int, *, field: str = "file", most: int | None = None
) -> Form:
    """Read a multipart body. Its file, the part named `field`, is written to a new file in `folder` and flushed to
    disk. It may have `most` bytes (default: the limit of files); `room` is how many bytes the server can still store.
    Raises WireError, and leaves no file then.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 256:
        raise bad("Send the body as multipart/form-data.", code="invalid_content_type")
    most = most or limits.file_bytes
    check_announced(request, most + _PARTS * _FIELD_BYTES, _larger(most))
    parts = _Parts(folder, limits, room, field, most)
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]  # its TypedDict wants literal keys
        async for chunk in chunks(request, limits):
            parser.write(chunk)
        parser.finalize()
        form = parts.done()
        if form.path is not None:
            await asyncio.to_thread(sync, form.path)
        return form
    except BaseException as error:
        parts.discard()
        if isinstance(error, FormParserError | UnicodeDecodeError):
            raise bad("The multipart body is broken.", code="invalid_multipart") from error
        if isinstance(error, WireError) and error.status == 413:
            raise await too_large(request, limits, error.message) from error
        raise


class _Parts:
    """Callbacks of the multipart parser."""

    def __init__(self, folder: Path, limits: ResourceLimits, room: int, field: str, most: int) -> None:
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
            "on_end": self._finish,
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
        headers = {bytes(name).lower(): bytes(value) for name, value in self._headers}
        kind, options = parse_options_header(headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode()
        if kind != b"form-data" or not self._name:
            raise bad("A part has no name.", code="invalid_multipart")
        if b"filename" not in options and not (
            self._name == self._field == "data"
        ):  # a part of an upload needs no file name
            if self._name in self._form.fields:
                raise bad(f"{self._name[:64]}: is given twice.", self._name[:64], "invalid_multipart")
            return
        if self._form.path is not None or self._name != self._field:
            raise bad(f"Send one file, in the part named {self._field}.", self._field, "invalid_multipart")
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
            raise WireError(413, NO_ROOM)
        try:
            self._file.write(data[start:end])
        except OSError as error:
            raise WireError(413, f"The file could not be stored: {error.strerror}.") from error

    def _end(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()
        elif self._name != self._field or self._form.path is None:
            self._form.fields[self._name] = self._value.decode()

    def _finish(self) -> None:
        self._ended = True


def _larger(most: int) -> str:
    return f"The file is larger than {most:,} bytes."


def plain_name(name: str) -> str:
    """Return a file name to show: no folders, no characters that control a terminal, 255 characters at most."""
    name = re.sub(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", "", name)
    return re.split(r"[\\/]", name)[-1][:255] or "file.jsonl"
