"""`/v1/files`: uploaded files, stored under ids of the server."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tuneport_server.multipart import Form, read_form
from tuneport_server.request_threads import expensive
from tuneport_server.server import Server, owned_of, server_of
from tuneport_server.store import Owned, Row, UnknownCursorError
from tuneport_server.vault import PURPOSE, place
from tuneport_server.wire import Body, bad, check_query, limit_of, list_page, missing, parse, reply, unknown_cursor

_EXPIRES = {"expires_after[anchor]": "anchor", "expires_after[seconds]": "seconds"}


class ExpiresAfter(Body):
    """How many seconds after its creation a file is deleted."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class _Expiration(Body):
    """For the fields of a form, so that errors name `expires_after.seconds`."""

    expires_after: ExpiresAfter


async def upload(request: Request) -> Response:
    """`POST /files`."""
    server, owned = server_of(request), owned_of(request)
    check_query(request.query_params)
    free = await run_in_threadpool(room, server, owned)
    form = await read_form(request, server.vault.incoming, server.limits, free)
    try:
        return reply(await server.threads.run(request, _accept, server, owned, form))
    finally:
        if form.path is not None:
            form.path.unlink(missing_ok=True)


def list_files(request: Request) -> Response:
    """`GET /files`: newest first, unless `order=asc`."""
    owned, query = owned_of(request), request.query_params
    check_query(query, "after", "limit", "order", "purpose")
    limit = limit_of(query, 10_000, 10_000)
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise bad("order: should be asc or desc.", "order", "invalid_value")
    try:
        rows = owned.files(query.get("after"), limit + 1, query.get("purpose"), "asc" if order == "asc" else "desc")
    except UnknownCursorError:
        raise unknown_cursor() from None
    return reply(list_page([to_wire(row) for row in rows[:limit]], more=len(rows) > limit))


def get_file(request: Request) -> Response:
    """`GET /files/{id}`."""
    check_query(request.query_params)
    return reply(to_wire(_find(request)))


def content(request: Request) -> Response:
    """`GET /files/{id}/content`: the bytes as they were uploaded."""
    check_query(request.query_params)
    row = _find(request)
    try:
        return _OpenFile(server_of(request), row)
    except FileNotFoundError:  # deleted since its row was read
        raise missing("File object", row["id"], "id", "not_found") from None


class _OpenFile(FileResponse):
    """The bytes of a file that is open already: deleting the file does not change the response."""

    def __init__(self, server: Server, row: Row) -> None:
        self._file = server.vault.open(row)
        super().__init__(
            f"/dev/fd/{self._file.fileno()}",
            media_type="application/octet-stream",
            stat_result=os.fstat(self._file.fileno()),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def delete(request: Request) -> Response:
    """`DELETE /files/{id}`. A job that was created with it has its own link to the bytes."""
    check_query(request.query_params)
    server, row = server_of(request), _find(request)
    owned_of(request).mark_file_deleted(row["id"], int(time.time()))
    server.vault.remove_file(row["id"])
    server.checks.forget(row["id"])
    return reply({"id": row["id"], "object": "file", "deleted": True})


def room(server: Server, owned: Owned) -> int:
    """Return how many more bytes can be stored. Raises WireError if the owner has too many files."""
    count = owned.file_count()
    if count >= server.limits.files:
        raise bad(f"There are already {count:,} files, the most for one access token.", code="too_many_files")
    return server.limits.total_bytes - server.vault.bytes_used()


def add_file(owned: Owned, id_: str, size: int, filename: str, life: int | None) -> None:
    """Add a file whose bytes are in place; it is deleted after `life` seconds, if any."""
    now = int(time.time())
    expires = None if life is None else now + life
    values = {"bytes": size, "filename": filename, "purpose": PURPOSE}
    owned.add_file(id_, **values, created=now, expires=expires, status="uploaded")


def _accept(server: Server, owned: Owned, form: Form) -> dict[str, Any]:
    purpose = form.fields.get("purpose")
    unknown = [name for name in form.fields if name != "purpose" and name not in _EXPIRES]
    if unknown:
        raise bad(f"{unknown[0][:64]}: is not supported here.", unknown[0][:64], "unsupported_parameter")
    if purpose is None:
        raise bad("purpose: is missing.", "purpose", "missing_required_parameter")
    if purpose != PURPOSE:
        raise bad(f"purpose: should be {PURPOSE!r}, the only one here.", "purpose", "invalid_value")
    life = _read_lifetime(form.fields)
    if form.path is None:
        raise bad("file: is missing.", "file", "missing_required_parameter")
    if not form.size:
        raise bad("file: is empty.", "file", "invalid_value")
    with place(form.path, server.vault.files, "file-") as id_:
        add_file(owned, id_, form.size, form.filename, life)
    server.checks.wake()
    row = owned.file(id_)
    assert row is not None
    return to_wire(row)


def _read_lifetime(fields: Mapping[str, str]) -> int | None:
    """Return the seconds of `expires_after` in a form; None if it has none. Raises WireError."""
    given: dict[str, Any] = {name: fields[field] for field, name in _EXPIRES.items() if field in fields}
    if not given:
        return None
    if re.fullmatch(r"[0-9]{1,9}", given.get("seconds", "")):
        given["seconds"] = int(given["seconds"])
    return parse(_Expiration, {"expires_after": given}).expires_after.seconds


def _find(request: Request) -> Row:
    id_ = request.path_params["file_id"]
    row = owned_of(request).file(id_)
    if row is None:
        raise missing("File object", id_, "id", "not_found")
    return row


def to_wire(row: Row) -> dict[str, Any]:
    """Return the wire's file object."""
    file = {
        "id": row["id"],
        "object": "file",
        "bytes": row["bytes"],
        "created_at": row["created"],
        "filename": row["filename"],
        "purpose": row["purpose"],
        "status": row["status"],
    }
    if row["details"] is not None:
        file["status_details"] = row["details"]
    return file if row["expires"] is None else {**file, "expires_at": row["expires"]}


ROUTES = [
    Route("/v1/files", upload, methods=["POST"]),
    Route("/v1/files", expensive(list_files), methods=["GET"]),
    Route("/v1/files/{file_id}", get_file, methods=["GET"]),
    Route("/v1/files/{file_id}", delete, methods=["DELETE"]),
    Route("/v1/files/{file_id}/content", content, methods=["GET"]),
]
