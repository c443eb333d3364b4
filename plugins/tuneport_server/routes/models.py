"""`/v1/models`: the base models that are served, and the tuned models of the token that asks."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tuneport import delete
from tuneport.errors import JobNotFinished, JobNotFound, UsageError
from tuneport.plugin import Ref
from tuneport_server.background.events import CHECKPOINT
from tuneport_server.request_threads import expensive
from tuneport_server.server import Server, owner_of, server_of
from tuneport_server.store import Row
from tuneport_server.wire import WireError, missing, only, reply


def list_models(request: Request) -> Response:
    """`GET /models`."""
    server = server_of(request)
    only(request.query_params)
    found = [_tuned(row) for row in tuned_rows(server, owner_of(request))] + [
        _base(server, name) for name in server.names
    ]
    return reply({"object": "list", "data": found})


def get_model(request: Request) -> Response:
    """`GET /models/{model}`."""
    only(request.query_params)
    server, name = server_of(request), request.path_params["model"]
    if name in server.names:
        return reply(_base(server, name))
    return reply(_tuned(_asked(server, owner_of(request), name)))


def delete_model(request: Request) -> Response:
    """`DELETE /models/{model}`: a tuned model, with all that its training left; the job's record and events stay."""
    only(request.query_params)
    server, name = server_of(request), request.path_params["model"]
    if name in server.names:
        raise WireError(403, f"{name} is a base model of this server and cannot be deleted.", param="model")
    row = _asked(server, owner_of(request), name)
    ref = row["ref"]
    try:
        server.store.keep_events(row["id"], server.seen.of(ref))
        server.desks.forget(Ref.parse(ref))
        delete(Ref.parse(ref))
    except JobNotFound:
        pass  # somebody has removed it by hand
    except (JobNotFinished, UsageError) as error:
        raise WireError(409, error.message, code="conflict") from error
    server.store.update("jobs", row["id"], removed=1)
    return reply({"id": name, "object": "model", "deleted": True})


def tuned_rows(server: Server, owner: str) -> list[Row]:
    """The jobs whose models there are, newest first."""
    return server.store.rows(
        "SELECT * FROM jobs WHERE owner = ? AND status = 'succeeded' AND NOT removed ORDER BY n DESC", owner
    )


def resolve(server: Server, owner: str, name: str) -> Ref:
    """The ref that a model's name stands for; raises WireError when the owner has no such model."""
    if name in server.names:
        return server.names[name]
    return Ref.parse(_asked(server, owner, name)["ref"])


def _asked(server: Server, owner: str, name: str) -> Row:
    row = _row(server, owner, name)
    if row is None:
        tuned, mark, _ = name.partition(CHECKPOINT)
        if mark and _row(server, owner, tuned) is not None:
            message = f"{name[:200]} is a checkpoint, and those are only listed. Use the model itself: {tuned}"
            raise WireError(404, message, param="model", code="model_not_found")
        raise missing("model", name, "model", "model_not_found")
    return row


def _row(server: Server, owner: str, name: str) -> Row | None:
    return server.store.row(
        "SELECT * FROM jobs WHERE tuned = ? AND owner = ? AND status = 'succeeded' AND NOT removed", name, owner
    )


def _base(server: Server, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": server.started, "owned_by": "tuneport"}


def _tuned(row: Row) -> dict[str, Any]:
    return {"id": row["tuned"], "object": "model", "created": row["finished"], "owned_by": row["owner"]}


ROUTES = [
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/models/{model:path}", get_model, methods=["GET"]),
    Route("/v1/models/{model:path}", expensive(delete_model), methods=["DELETE"]),
]
