"""`/v1/models`: the base models that are served, and the tuned models of the request's owner."""

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
from tuneport_server.server import Server, owned_of, server_of
from tuneport_server.store import Owned, Row
from tuneport_server.wire import WireError, check_query, missing, reply


def list_models(request: Request) -> Response:
    """`GET /models`."""
    server = server_of(request)
    check_query(request.query_params)
    tuned = [_tuned_to_wire(row) for row in owned_of(request).models()]
    return reply({"object": "list", "data": tuned + [_base_to_wire(server, name) for name in server.names]})


def get_model(request: Request) -> Response:
    """`GET /models/{model}`."""
    check_query(request.query_params)
    server, name = server_of(request), request.path_params["model"]
    if name in server.names:
        return reply(_base_to_wire(server, name))
    return reply(_tuned_to_wire(_find(owned_of(request), name)))


def delete_model(request: Request) -> Response:
    """`DELETE /models/{model}`: a tuned model, with everything its training left. The job's row and events are kept."""
    check_query(request.query_params)
    server, owned, name = server_of(request), owned_of(request), request.path_params["model"]
    if name in server.names:
        raise WireError(403, f"{name} is a base model of this server and cannot be deleted.", param="model")
    row = _find(owned, name)
    ref = Ref.parse(row["ref"])
    try:
        owned.keep_events(row["id"], server.events.of(row["ref"]))
        server.models.unload(ref)
        delete(ref)
    except JobNotFound:
        pass  # somebody has removed it from the machine
    except (JobNotFinished, UsageError) as error:
        raise WireError(409, error.message, code="conflict") from error
    owned.update_job(row["id"], removed=1)
    return reply({"id": name, "object": "model", "deleted": True})


def resolve(server: Server, owned: Owned, name: str) -> Ref:
    """Return the ref that a model's name stands for. Raises WireError if the owner has no such model."""
    if name in server.names:
        return server.names[name]
    return Ref.parse(_find(owned, name)["ref"])


def _find(owned: Owned, name: str) -> Row:
    row = owned.model(name)
    if row is None:
        tuned, mark, _ = name.partition(CHECKPOINT)
        if mark and owned.model(tuned) is not None:
            message = f"{name[:200]} is a checkpoint; checkpoints are only listed. Use the model itself: {tuned}"
            raise WireError(404, message, param="model", code="model_not_found")
        raise missing("model", name, "model", "model_not_found")
    return row


def _base_to_wire(server: Server, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": server.started, "owned_by": "tuneport"}


def _tuned_to_wire(row: Row) -> dict[str, Any]:
    return {"id": row["tuned"], "object": "model", "created": row["finished"], "owned_by": row["owner"]}


ROUTES = [
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/models/{model:path}", get_model, methods=["GET"]),
    Route("/v1/models/{model:path}", expensive(delete_model), methods=["DELETE"]),
]
