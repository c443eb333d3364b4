"""`/v1/uploads`: large files in parts, which outlive a killed server as much as a killed client."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tuneport.plugin import open_regular
from tuneport_server import files
from tuneport_server.bodies import Form, plain_name, read_form, read_json
from tuneport_server.server import Server, owner_of, server_of
from tuneport_server.store import Row
from tuneport_server.wire import Body, WireError, bad, missing, only, parse, reply

_LIFE_SECONDS = 3600
_BLOCK = 1 << 20


class _Creation(Body):
    filename: Annotated[str, Field(min_length=1, max_length=1024)]
    purpose: str
    bytes: Annotated[int, Field(ge=1)]
    mime_type: Annotated[str, Field(max_length=256)]
    expires_after: files.ExpiresAfter | None = None


class _Completion(Body):
    part_ids: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    md5: str | None = None


async def create(request: Request) -> Response:
    """`POST /uploads`."""
    only(request.query_params)
    server, owner = server_of(request), owner_of(request)
    asked = parse(_Creation, await read_json(request, server.limits))
    return reply(await run_in_threadpool(_create, server, owner, asked))


async def add_part(request: Request) -> Response:
    """`POST /uploads/{id}/parts`: in any order, also several at once."""
    only(request.query_params)
    server, owner = server_of(request), owner_of(request)
    upload = await run_in_threadpool(_asked, request)
    _refuse_unless_pending(upload)
    room = await run_in_threadpool(files.room, server, owner)
    form = await read_form(request, server.incoming, server.limits, room, field="data", most=server.limits.part_bytes)
    try:
        return reply(await server.pool.run(request, _keep, server, upload["id"], form))
    finally:
        if form.path is not None:
            form.path.unlink(missing_ok=True)


async def complete(request: Request) -> Response:
    """`POST /uploads/{id}/complete`: the file, of the parts named and in that order. May be repeated."""
    only(request.query_params)
    server = server_of(request)
    upload = await run_in_threadpool(_asked, request)
    asked = parse(_Completion, await read_json(request, server.limits))
    if upload["status"] != "completed":
        _refuse_unless_pending(upload)
        await server.pool.run(request, _assemble, server, upload, asked)
    return reply(_wire(server, await run_in_threadpool(_asked, request)))


async def cancel(request: Request) -> Response:
    """`POST /uploads/{id}/cancel`. May be repeated."""
    only(request.query_params)
    server = server_of(request)
    await read_json(request, server.limits, empty=True)
    upload = await run_in_threadpool(_asked, request)
    if upload["status"] != "cancelled":
        _refuse_unless_pending(upload)
        await run_in_threadpool(_end, server, upload["id"], "cancelled")
    return reply(_wire(server, await run_in_threadpool(_asked, request)))


def drop_expired(server: Server) -> None:
    """Remove the parts of uploads whose time is over."""
    late = server.store.rows("SELECT id FROM uploads WHERE status = 'pending' AND expires < ?", int(time.time()))
    for row in late:
        _end(server, row["id"], "expired")


def sweep(server: Server) -> None:
    """At a start: remove parts that were moved into place and never written down."""
    known = {row["id"] for row in server.store.rows("SELECT id FROM parts")}
    for file in server.parts.iterdir():
        if file.name not in known:
            file.unlink()
    drop_expired(server)


def _create(server: Server, owner: str, asked: _Creation) -> dict[str, Any]:
    if asked.purpose != files.PURPOSE:
        raise bad(f"purpose: should be {files.PURPOSE!r}; this server does nothing else.", "purpose", "invalid_value")
    if asked.bytes > server.limits.upload_bytes:
        raise WireError(413, f"An upload may have {server.limits.upload_bytes:,} bytes.", param="bytes")
    drop_expired(server)
    if asked.bytes > files.room(server, owner):
        raise WireError(413, "There is no room for the file beside those that are here. Delete some first.")
    now, id_ = int(time.time()), "upload_" + secrets.token_hex(12)
    values = {"owner": owner, "bytes": asked.bytes, "filename": plain_name(asked.filename), "purpose": asked.purpose}
    life = asked.expires_after.seconds if asked.expires_after is not None else None
    times = {"created": now, "expires": now + _LIFE_SECONDS, "file_seconds": life}
    server.store.insert("uploads", id=id_, **values, **times, status="pending")
    return _wire(server, _row(server, id_))


def _keep(server: Server, upload: str, form: Form) -> dict[str, Any]:
    if form.path is None or not form.size:
        raise bad("data: is missing or empty.", "data", "missing_required_parameter")
    now = int(time.time())
    with files.placed(form.path, server.parts, "part_") as id_, server.store.write():
        _refuse_unless_pending(_row(server, upload))
        server.store.insert("parts", id=id_, upload=upload, bytes=form.size, lines=form.lines, created=now)
    return {"id": id_, "object": "upload.part", "created_at": now, "upload_id": upload}


def _assemble(server: Server, upload: Row, asked: _Completion) -> None:
    parts = {row["id"]: row for row in server.store.rows("SELECT * FROM parts WHERE upload = ?", upload["id"])}
    chosen = [parts[one] for one in asked.part_ids if one in parts]
    if len(chosen) != len(asked.part_ids) or len(set(asked.part_ids)) != len(chosen):
        raise bad("part_ids: name each part of this upload once.", "part_ids", "invalid_value")
    size = sum(one["bytes"] for one in chosen)
    if size != upload["bytes"]:
        raise bad(f"The parts have {size:,} bytes; the upload was to have {upload['bytes']:,}.", "part_ids")
    if sum(one["lines"] for one in chosen) > server.limits.file_rows:
        raise WireError(413, f"The file has more than {server.limits.file_rows:,} lines.")
    draft = server.incoming / uuid.uuid4().hex
    try:
        md5 = _join([server.parts / one["id"] for one in chosen], draft)
        if asked.md5 is not None and asked.md5.lower() != md5:
            raise bad(f"md5: the parts have {md5}.", "md5", "invalid_value")
        with files.placed(draft, server.files, "file-") as id_, server.store.write():
            _refuse_unless_pending(_row(server, upload["id"]))
            files.insert(server, id_, upload["owner"], size, upload["filename"], files.PURPOSE, upload["file_seconds"])
            server.store.update("uploads", upload["id"], file=id_)
            removed = _forget_parts(server, upload["id"], "completed")
    except FileNotFoundError as error:  # cancelled, or completed by another request, while the parts were read
        raise bad("The upload has ended in the meantime.", code="invalid_upload_state") from error
    except OSError as error:
        raise WireError(413, f"The file could not be kept: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)
    server.checks.wake()
    _unlink(removed)


def _join(parts: list[Path], target: Path) -> str:
    """Write the parts one after another; their MD5, which is the wire's word for it."""
    md5 = hashlib.md5(usedforsecurity=False)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        for part in parts:
            with open_regular(part) as file:
                while block := file.read(_BLOCK):
                    md5.update(block)
                    out.write(block)
    return md5.hexdigest()


def _end(server: Server, id_: str, status: str) -> None:
    with server.store.write():
        if _row(server, id_)["status"] != "pending":
            return
        removed = _forget_parts(server, id_, status)
    _unlink(removed)


def _forget_parts(server: Server, id_: str, status: str) -> list[Path]:
    with server.store.write() as sql:
        removed = [server.parts / row["id"] for row in server.store.rows("SELECT id FROM parts WHERE upload = ?", id_)]
        sql.execute("DELETE FROM parts WHERE upload = ?", (id_,))
        server.store.update("uploads", id_, status=status)
    return removed


def _unlink(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _refuse_unless_pending(upload: Row) -> None:
    if upload["status"] == "pending" and upload["expires"] >= time.time():
        return
    status = "expired" if upload["status"] == "pending" else upload["status"]
    raise bad(f"The upload {upload['id']} is {status}.", code="invalid_upload_state")


def _row(server: Server, id_: str) -> Row:
    row = server.store.row("SELECT * FROM uploads WHERE id = ?", id_)
    assert row is not None  # no upload is ever forgotten
    return row


def _asked(request: Request) -> Row:
    id_ = request.path_params["upload_id"]
    row = server_of(request).store.row("SELECT * FROM uploads WHERE id = ? AND owner = ?", id_, owner_of(request))
    if row is None:
        raise missing("upload", id_, "upload_id", "not_found")
    return row


def _wire(server: Server, row: Row) -> dict[str, Any]:
    said = {
        "id": row["id"],
        "object": "upload",
        "bytes": row["bytes"],
        "created_at": row["created"],
        "filename": row["filename"],
        "purpose": row["purpose"],
        "status": row["status"],
        "expires_at": row["expires"],
    }
    file = files.find_file(server, row["owner"], row["file"]) if row["file"] else None
    return {**said, "file": files.wire(file)} if file is not None else said


ROUTES = [
    Route("/v1/uploads", create, methods=["POST"]),
    Route("/v1/uploads/{upload_id}/parts", add_part, methods=["POST"]),
    Route("/v1/uploads/{upload_id}/complete", complete, methods=["POST"]),
    Route("/v1/uploads/{upload_id}/cancel", cancel, methods=["POST"]),
]
