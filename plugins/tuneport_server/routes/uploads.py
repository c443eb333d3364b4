"""`/v1/uploads`: large files in parts, which survive a kill of the server or of the client."""

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
from tuneport_server.bodies import read_json
from tuneport_server.multipart import NO_ROOM, Form, plain_name, read_form
from tuneport_server.routes import files
from tuneport_server.server import Server, owned_of, server_of
from tuneport_server.store import Owned, Row
from tuneport_server.vault import PURPOSE, place
from tuneport_server.wire import Body, WireError, bad, check_query, missing, parse, reply

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
    check_query(request.query_params)
    server = server_of(request)
    creation = parse(_Creation, await read_json(request, server.limits))
    return reply(await run_in_threadpool(_create, server, owned_of(request), creation))


async def add_part(request: Request) -> Response:
    """`POST /uploads/{id}/parts`: in any order, also several at once."""
    check_query(request.query_params)
    server, owned = server_of(request), owned_of(request)
    upload = await run_in_threadpool(_find, request)
    _refuse_unless_pending(upload)
    room, most = await run_in_threadpool(files.room, server, owned), server.limits.part_bytes
    form = await read_form(request, server.vault.incoming, server.limits, room, field="data", most=most)
    try:
        return reply(await server.threads.run(request, _add_part, server, owned, upload["id"], form))
    finally:
        if form.path is not None:
            form.path.unlink(missing_ok=True)


async def complete(request: Request) -> Response:
    """`POST /uploads/{id}/complete`: join the named parts, in that order. May be repeated."""
    check_query(request.query_params)
    server = server_of(request)
    upload = await run_in_threadpool(_find, request)
    completion = parse(_Completion, await read_json(request, server.limits))
    if upload["status"] != "completed":
        _refuse_unless_pending(upload)
        await server.threads.run(request, _complete, server, owned_of(request), upload, completion)
    return await run_in_threadpool(_answer, request)


async def cancel(request: Request) -> Response:
    """`POST /uploads/{id}/cancel`. May be repeated."""
    check_query(request.query_params)
    server = server_of(request)
    await read_json(request, server.limits, empty=True)
    upload = await run_in_threadpool(_find, request)
    if upload["status"] != "cancelled":
        _refuse_unless_pending(upload)
        await run_in_threadpool(server.vault.end_upload, upload["id"], "cancelled")
    return await run_in_threadpool(_answer, request)


def _create(server: Server, owned: Owned, creation: _Creation) -> dict[str, Any]:
    if creation.purpose != PURPOSE:
        raise bad(f"purpose: should be {PURPOSE!r}, the only one here.", "purpose", "invalid_value")
    if creation.bytes > server.limits.upload_bytes:
        raise WireError(413, f"bytes: at most {server.limits.upload_bytes:,}.", param="bytes")
    server.vault.drop_expired_uploads()
    if creation.bytes > files.room(server, owned):
        raise WireError(413, NO_ROOM)
    now, id_ = int(time.time()), "upload_" + secrets.token_hex(12)
    values = {"bytes": creation.bytes, "filename": plain_name(creation.filename), "purpose": creation.purpose}
    life = creation.expires_after.seconds if creation.expires_after is not None else None
    owned.add_upload(id_, **values, created=now, expires=now + _LIFE_SECONDS, file_seconds=life)
    return _to_wire(owned, _reread(owned, id_))


def _add_part(server: Server, owned: Owned, upload: str, form: Form) -> dict[str, Any]:
    if form.path is None or not form.size:
        raise bad("data: is missing or empty.", "data", "missing_required_parameter")
    now = int(time.time())
    with place(form.path, server.vault.parts, "part_") as id_, owned.transaction():
        _refuse_unless_pending(_reread(owned, upload))
        owned.add_part(id_, upload, bytes=form.size, lines=form.lines, created=now)
    return {"id": id_, "object": "upload.part", "created_at": now, "upload_id": upload}


def _complete(server: Server, owned: Owned, upload: Row, completion: _Completion) -> None:
    parts = _chosen(server, owned, upload, completion)
    size, id_ = upload["bytes"], upload["id"]
    draft = server.vault.incoming / uuid.uuid4().hex
    try:
        md5 = _join([server.vault.parts / one["id"] for one in parts], draft)
        if completion.md5 is not None and completion.md5.lower() != md5:
            raise bad(f"md5: the parts have {md5}.", "md5", "invalid_value")
        with place(draft, server.vault.files, "file-") as file, owned.transaction():
            _refuse_unless_pending(_reread(owned, id_))
            files.add_file(owned, file, size, upload["filename"], upload["file_seconds"])
            removed = owned.complete_upload(id_, file)
    except FileNotFoundError as error:  # canceled, or completed by another request, while the parts were read
        raise bad("The upload has ended in the meantime.", code="invalid_upload_state") from error
    except OSError as error:
        raise WireError(413, f"The file could not be stored: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)
    server.checks.wake()
    server.vault.remove_parts(removed)


def _chosen(server: Server, owned: Owned, upload: Row, completion: _Completion) -> list[Row]:
    """Return the parts that a completion names. Raises WireError if they are not the upload."""
    parts = {row["id"]: row for row in owned.parts(upload["id"])}
    chosen = [parts[one] for one in completion.part_ids if one in parts]
    if len(chosen) != len(completion.part_ids) or len(set(completion.part_ids)) != len(chosen):
        raise bad("part_ids: name each part of this upload once.", "part_ids", "invalid_value")
    size = sum(one["bytes"] for one in chosen)
    if size != upload["bytes"]:
        raise bad(f"The parts have {size:,} bytes, but the upload was created for {upload['bytes']:,}.", "part_ids")
    if sum(one["lines"] for one in chosen) > server.limits.file_rows:
        raise WireError(413, f"The file has more than {server.limits.file_rows:,} lines.")
    return chosen


def _join(parts: list[Path], target: Path) -> str:
    """Write the parts one after another. Returns their MD5, the checksum that the wire uses."""
    md5 = hashlib.md5(usedforsecurity=False)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        for part in parts:
            with open_regular(part) as file:
                while block := file.read(_BLOCK):
                    md5.update(block)
                    out.write(block)
    return md5.hexdigest()


def _refuse_unless_pending(upload: Row) -> None:
    if upload["status"] == "pending" and upload["expires"] >= time.time():
        return
    status = "expired" if upload["status"] == "pending" else upload["status"]
    raise bad(f"The upload {upload['id']} is {status}.", code="invalid_upload_state")


def _reread(owned: Owned, id_: str) -> Row:
    row = owned.upload(id_)
    assert row is not None  # uploads are never removed from the store
    return row


def _find(request: Request) -> Row:
    id_ = request.path_params["upload_id"]
    row = owned_of(request).upload(id_)
    if row is None:
        raise missing("upload", id_, "upload_id", "not_found")
    return row


def _answer(request: Request) -> Response:
    return reply(_to_wire(owned_of(request), _find(request)))


def _to_wire(owned: Owned, row: Row) -> dict[str, Any]:
    upload = {
        "id": row["id"],
        "object": "upload",
        "bytes": row["bytes"],
        "created_at": row["created"],
        "filename": row["filename"],
        "purpose": row["purpose"],
        "status": row["status"],
        "expires_at": row["expires"],
    }
    file = owned.file(row["file"]) if row["file"] else None
    return {**upload, "file": files.to_wire(file)} if file is not None else upload


ROUTES = [
    Route("/v1/uploads", create, methods=["POST"]),
    Route("/v1/uploads/{upload_id}/parts", add_part, methods=["POST"]),
    Route("/v1/uploads/{upload_id}/complete", complete, methods=["POST"]),
    Route("/v1/uploads/{upload_id}/cancel", cancel, methods=["POST"]),
]
