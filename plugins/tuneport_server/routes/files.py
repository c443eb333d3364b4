"""`/v1/files`: uploads, kept under ids of our own."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tuneport.plugin import open_regular
from tuneport_server.bodies import Form, read_form
from tuneport_server.request_threads import expensive
from tuneport_server.server import Server, owner_of, server_of
from tuneport_server.store import Row
from tuneport_server.wire import Body, bad, limit_of, missing, only, page, parse, reply

PURPOSE = "fine-tune"
RESULTS = "fine-tune-results"
_EXPIRES = {"expires_after[anchor]": "anchor", "expires_after[seconds]": "seconds"}


class ExpiresAfter(Body):
    """When a file goes by itself: so many seconds after it was made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class _Expiration(Body):
    """As a form brings it; errors then name `expires_after.seconds`."""

    expires_after: ExpiresAfter


async def upload(request: Request) -> Response:
    """`POST /files`."""
    server, owner = server_of(request), owner_of(request)
    only(request.query_params)
    free = await run_in_threadpool(room, server, owner)
    form = await read_form(request, server.incoming, server.limits, free)
    try:
        return reply(await server.pool.run(request, _accept, server, owner, form))
    finally:
        if form.path is not None:
            form.path.unlink(missing_ok=True)


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
        "SELECT * FROM present WHERE owner = ?1 AND (?2 IS NULL OR purpose = ?2)"  # noqa: S608 - words of our own
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
    try:
        return _OpenFile(server_of(request).files / row["id"])
    except FileNotFoundError:  # deleted since its row was read
        raise missing("File object", row["id"], "id", "not_found") from None


class _OpenFile(FileResponse):
    """The bytes of a file that was opened once: whoever deletes it meanwhile changes nothing about the answer."""

    def __init__(self, path: Path) -> None:
        self._file = open_regular(path)
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
    only(request.query_params)
    server, row = server_of(request), _asked(request)
    server.store.update("files", row["id"], deleted=int(time.time()))
    _remove(server, row["id"])
    return reply({"id": row["id"], "object": "file", "deleted": True})


def find_file(server: Server, owner: str, id_: str) -> Row | None:
    """The owner's file of that id, unless it was deleted or has expired."""
    return server.store.row("SELECT * FROM present WHERE id = ? AND owner = ?", id_, owner)


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


def drop_expired(server: Server) -> None:
    """Remove the files whose time is over."""
    now = int(time.time())
    for row in server.store.rows("SELECT id FROM files WHERE deleted IS NULL AND expires <= ?", now):
        server.store.update("files", row["id"], deleted=now)
        _remove(server, row["id"])


def sweep(server: Server) -> None:
    """At a start: remove bytes that no file and no job has, and give jobs of older versions their links."""
    for row in server.store.rows("SELECT * FROM held"):
        link = link_of(server, row["job"], row["param"])
        if not link.exists() and (server.files / row["file"]).exists():
            _link(server.files / row["file"], link)
    drop_expired(server)
    release_inputs(server)
    present = {row["id"] for row in server.store.rows("SELECT id FROM present")}
    for file in server.files.iterdir():
        if file.name not in present:  # also what a killed server had moved into place and not yet written down
            file.unlink()


def _remove(server: Server, id_: str) -> None:
    (server.files / id_).unlink(missing_ok=True)
    server.checks.forget(id_)


def link_of(server: Server, job: str, param: str) -> Path:
    """Where a job that has not begun has its own link to the bytes of its file; `param` names the file's use."""
    return server.inputs / f"{job}.{param}"


@contextmanager
def linked_inputs(server: Server, job: str, inputs: Mapping[str, str | None]) -> Iterator[Callable[[str], bool]]:
    """Inside the transaction that writes a job down: what links one of its `inputs` (use: file id), and says whether
    the file was still there. The links go again if the transaction fails.
    """

    def link(param: str) -> bool:
        try:
            _link(server.files / str(inputs[param]), link_of(server, job, param))
        except FileNotFoundError:
            return False
        _flush_folder(server.inputs)
        return True

    try:
        yield link
    except BaseException:
        for param in inputs:
            link_of(server, job, param).unlink(missing_ok=True)
        raise


def release_inputs(server: Server) -> None:
    """Remove the links of jobs that have begun or are over."""
    found = list(server.inputs.iterdir())  # before the rows: a job that is just being made has its link first
    held = {f"{row['job']}.{row['param']}" for row in server.store.rows("SELECT * FROM held")}
    for link in found:
        if link.name not in held:
            link.unlink(missing_ok=True)


@contextmanager
def borrowed(server: Server, id_: str) -> Iterator[Path]:
    """A link to a file for who opens it more than once, from its own place or from a job that has a link to it. Raises
    FileNotFoundError when it is in neither.
    """
    link = server.incoming / secrets.token_hex(16)
    held = server.store.rows("SELECT * FROM held WHERE file = ?", id_)
    places = [server.files / id_, *(link_of(server, one["job"], one["param"]) for one in held)]
    try:
        for place in places[:-1]:
            with contextlib.suppress(FileNotFoundError):
                _link(place, link)
                break
        else:
            _link(places[-1], link)
        yield link
    finally:
        link.unlink(missing_ok=True)


def _link(file: Path, target: Path) -> None:
    try:
        target.hardlink_to(file)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(file, target)


def room(server: Server, owner: str) -> int:
    """How many bytes more there may be; raises WireError when the owner has too many files."""
    limits = server.limits
    row = server.store.row(
        "SELECT (SELECT coalesce(sum(bytes), 0) FROM files"
        " WHERE id IN (SELECT id FROM present UNION SELECT file FROM held))"
        " + (SELECT coalesce(sum(bytes), 0) FROM parts) AS total,"
        " (SELECT count(*) FROM present WHERE owner = ?) AS mine",
        owner,
    )
    assert row is not None  # an aggregate always gives a row
    if row["mine"] >= limits.files:
        raise bad(f"There are {row['mine']:,} files already, as many as one token may have.", code="too_many_files")
    return int(limits.total_bytes - row["total"])


def _accept(server: Server, owner: str, form: Form) -> dict[str, Any]:
    purpose = form.fields.get("purpose")
    unknown = [name for name in form.fields if name != "purpose" and name not in _EXPIRES]
    if unknown:
        raise bad(f"{unknown[0][:64]}: is not supported here.", unknown[0][:64], "unsupported_parameter")
    if purpose is None:
        raise bad("purpose: is missing.", "purpose", "missing_required_parameter")
    if purpose != PURPOSE:
        raise bad(f"purpose: should be {PURPOSE!r}; this server does nothing else.", "purpose", "invalid_value")
    life = _life(form.fields)
    if form.path is None:
        raise bad("file: is missing.", "file", "missing_required_parameter")
    if not form.size:
        raise bad("file: is empty.", "file", "invalid_value")
    with placed(form.path, server.files, "file-") as id_:
        insert(server, id_, owner, form.size, form.filename, PURPOSE, life)
    server.checks.wake()
    row = find_file(server, owner, id_)
    assert row is not None
    return wire(row)


def _life(fields: Mapping[str, str]) -> int | None:
    """The seconds of `expires_after` in a form; None where it has none. Raises WireError."""
    given: dict[str, Any] = {name: fields[field] for field, name in _EXPIRES.items() if field in fields}
    if not given:
        return None
    if re.fullmatch(r"[0-9]{1,9}", given.get("seconds", "")):
        given["seconds"] = int(given["seconds"])
    return parse(_Expiration, {"expires_after": given}).expires_after.seconds


def insert(
    server: Server, id_: str, owner: str, size: int, filename: str, purpose: str, life: int | None = None
) -> None:
    """Write down a file that lies in place; `life` is after how many seconds it goes by itself."""
    now = int(time.time())
    values = {"id": id_, "owner": owner, "bytes": size, "filename": filename, "purpose": purpose, "created": now}
    status = "uploaded" if purpose == PURPOSE else "processed"
    server.store.insert("files", **values, status=status, expires=None if life is None else now + life)


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
    with open_regular(draft) as file:
        os.fsync(file.fileno())
    draft.replace(target)
    _flush_folder(target.parent)


def _flush_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
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
    said = {
        "id": row["id"],
        "object": "file",
        "bytes": row["bytes"],
        "created_at": row["created"],
        "filename": row["filename"],
        "purpose": row["purpose"],
        "status": row["status"],
    }
    if row["details"] is not None:
        said["status_details"] = row["details"]
    return said if row["expires"] is None else {**said, "expires_at": row["expires"]}


ROUTES = [
    Route("/v1/files", upload, methods=["POST"]),
    Route("/v1/files", expensive(list_files), methods=["GET"]),
    Route("/v1/files/{file_id}", get_file, methods=["GET"]),
    Route("/v1/files/{file_id}", delete, methods=["DELETE"]),
    Route("/v1/files/{file_id}/content", content, methods=["GET"]),
]
