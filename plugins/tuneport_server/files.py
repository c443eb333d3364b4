"""`/v1/files`: uploads, kept under ids of our own."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from tuneport_server.bodies import Form, read_form
from tuneport_server.server import Server, owner_of, server_of
from tuneport_server.store import Row
from tuneport_server.wire import bad, limit_of, missing, only, page, reply

PURPOSE = "fine-tune"
RESULTS = "fine-tune-results"


async def upload(request: Request) -> Response:
    """`POST /files`."""
    server, owner = server_of(request), owner_of(request)
    only(request.query_params)
    free = await asyncio.to_thread(room, server, owner)
    form = await read_form(request, server.incoming, server.limits, free)
    return reply(await asyncio.to_thread(_accept, server, owner, form))


def list_files(request: Request) -> Response:
    """`GET /files`: newest first, unless `order=asc`."""
    server, owner, query = server_of(request), owner_of(request), request.query_params
    only(query, "after", "limit", "order", "purpose")
    limit = limit_of(query, 10_000, 10_000)
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise bad("order: should be asc or desc.", "order", "invalid_value")
    cursor, purpose = query.get("after"), query.get("purpose")
    start = None
    if cursor is not None:
        found = server.store.row("SELECT n FROM files WHERE id = ? AND owner = ?", cursor, owner)
        if found is None:
            raise bad("after: names nothing in this list.", "after", "invalid_value")
        start = found["n"]
    beyond, sorting = (">", "ASC") if order == "asc" else ("<", "DESC")
    statement = (
        "SELECT * FROM files WHERE owner = ?1 AND deleted IS NULL AND (?2 IS NULL OR purpose = ?2)"  # noqa: S608 - words of our own
        f" AND (?3 IS NULL OR n {beyond} ?3) ORDER BY n {sorting} LIMIT ?4"
    )
    rows = server.store.rows(statement, owner, purpose, start, limit + 1)
    return reply(page([wire(row) for row in rows[:limit]], more=len(rows) > limit))


def get_file(request: Request) -> Response:
    """`GET /files/{id}`."""
    only(request.query_params)
    return reply(wire(_asked(request)))


def content(request: Request) -> Response:
    """`GET /files/{id}/content`: the bytes that were sent."""
    only(request.query_params)
    row = _asked(request)
    return FileResponse(server_of(request).files / row["id"], media_type="application/octet-stream")


def delete(request: Request) -> Response:
    """`DELETE /files/{id}`. A job that was created with it still gets to read it."""
    only(request.query_params)
    server, row = server_of(request), _asked(request)
    server.store.update("files", row["id"], deleted=int(time.time()))
    drop_unused(server)
    return reply({"id": row["id"], "object": "file", "deleted": True})


def find_file(server: Server, owner: str, id_: str) -> Row | None:
    """The owner's file of that id."""
    return server.store.row("SELECT * FROM files WHERE id = ? AND owner = ? AND deleted IS NULL", id_, owner)


def add_result(server: Server, owner: str, job: str, text: str) -> str:
    """A file that a job made; asked again it is the same one. Returns its id."""
    id_ = "file-" + job.removeprefix("ftjob-")
    draft = server.incoming / id_
    draft.write_text(text, "utf-8")
    into_place(draft, server.files / id_)
    with server.store.write():
        if server.store.row("SELECT 1 FROM files WHERE id = ?", id_) is None:
            insert(server, id_, owner, len(text.encode()), "step_metrics.csv", RESULTS)
    return id_


def drop_unused(server: Server) -> None:
    """Remove the bytes of deleted files that no job waits to read."""
    gone = server.store.rows(
        "SELECT id FROM files WHERE deleted IS NOT NULL AND NOT EXISTS (SELECT 1 FROM jobs WHERE over = 0"
        " AND ref IS NULL AND (training_file = files.id OR validation_file = files.id))"
    )
    for row in gone:
        (server.files / row["id"]).unlink(missing_ok=True)


def room(server: Server, owner: str) -> int:
    """How many bytes more there may be; raises WireError when the owner has too many files."""
    limits = server.limits
    row = server.store.row(
        "SELECT coalesce(sum(bytes), 0) + (SELECT coalesce(sum(bytes), 0) FROM parts) AS total,"
        " coalesce(sum(owner = ?), 0) AS mine FROM files WHERE deleted IS NULL",
        owner,
    )
    assert row is not None  # an aggregate always gives a row
    if row["mine"] >= limits.files:
        raise bad(f"There are {row['mine']:,} files already, as many as one token may have.", code="too_many_files")
    return int(limits.total_bytes - row["total"])


def _accept(server: Server, owner: str, form: Form) -> dict[str, Any]:
    try:
        purpose = form.fields.get("purpose")
        unknown = [name for name in form.fields if name != "purpose"]
        if unknown:
            raise bad(f"{unknown[0][:64]}: is not supported here.", unknown[0][:64], "unsupported_parameter")
        if purpose is None:
            raise bad("purpose: is missing.", "purpose", "missing_required_parameter")
        if purpose != PURPOSE:
            raise bad(f"purpose: should be {PURPOSE!r}; this server does nothing else.", "purpose", "invalid_value")
        if form.path is None:
            raise bad("file: is missing.", "file", "missing_required_parameter")
        if not form.size:
            raise bad("file: is empty.", "file", "invalid_value")
        with placed(form.path, server.files, "file-") as id_:
            insert(server, id_, owner, form.size, form.filename, PURPOSE)
    finally:
        if form.path is not None:
            form.path.unlink(missing_ok=True)
    row = find_file(server, owner, id_)
    assert row is not None
    return wire(row)


def insert(server: Server, id_: str, owner: str, size: int, filename: str, purpose: str) -> None:
    """Write down a file that lies in place."""
    values = {"id": id_, "owner": owner, "bytes": size, "filename": filename, "purpose": purpose}
    server.store.insert("files", **values, created=int(time.time()))


@contextmanager
def placed(draft: Path, folder: Path, prefix: str) -> Iterator[str]:
    """A new id under which the draft lies in the folder, to be written down; it is gone again if that fails."""
    id_ = prefix + secrets.token_hex(12)
    try:
        into_place(draft, folder / id_)
        yield id_
    except BaseException:
        (folder / id_).unlink(missing_ok=True)
        raise


def into_place(draft: Path, target: Path) -> None:
    """Rename, and see the folder on the disk: the row that is written next must never name what is not there."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _asked(request: Request) -> Row:
    id_ = request.path_params["file_id"]
    row = find_file(server_of(request), owner_of(request), id_)
    if row is None:
        raise missing("File object", id_, "id", "not_found")
    return row


def wire(row: Row) -> dict[str, Any]:
    """The wire's file object."""
    return {
        "id": row["id"],
        "object": "file",
        "bytes": row["bytes"],
        "created_at": row["created"],
        "filename": row["filename"],
        "purpose": row["purpose"],
        "status": "processed",
    }


ROUTES = [
    Route("/v1/files", upload, methods=["POST"]),
    Route("/v1/files", list_files, methods=["GET"]),
    Route("/v1/files/{file_id}", get_file, methods=["GET"]),
    Route("/v1/files/{file_id}", delete, methods=["DELETE"]),
    Route("/v1/files/{file_id}/content", content, methods=["GET"]),
]
