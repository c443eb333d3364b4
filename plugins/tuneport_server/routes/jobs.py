"""`/v1/fine_tuning/jobs`: lists, actions, events and checkpoints."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tuneport import open_backend
from tuneport.errors import TuneportError, UnsupportedError
from tuneport.plugin import Ref
from tuneport_server.background.events import checkpoints_of, events_of
from tuneport_server.bodies import read_json
from tuneport_server.request_threads import expensive
from tuneport_server.server import Server, owned_of, server_of
from tuneport_server.store import Owned, Row, UnknownCursorError
from tuneport_server.wire import (
    bad,
    check_query,
    from_tuneport,
    limit_of,
    list_page,
    missing,
    page_after,
    reply,
    unknown_cursor,
)

ACTIONS = ("cancel", "pause", "resume")


def list_jobs(request: Request) -> Response:
    """`GET /fine_tuning/jobs`: newest first. `metadata[key]=value` selects jobs that have it, `metadata=null` jobs
    without any.
    """
    server, query = server_of(request), request.query_params
    check_query(query, "after", "limit", "metadata")
    limit = limit_of(query, 20, 100)
    if query.get("metadata", "null") != "null":
        raise bad("metadata: write metadata[key]=value, or metadata=null.", "metadata", "invalid_value")
    pairs = [
        (name.removeprefix("metadata[").removesuffix("]"), value)
        for name, value in query.multi_items()
        if name.startswith("metadata[")
    ]
    if len(pairs) > 16:
        raise bad("metadata: asks for more than 16 pairs.", "metadata", "invalid_value")
    try:
        found = owned_of(request).jobs(query.get("after"), limit + 1, pairs, bare="metadata" in query)
    except UnknownCursorError:
        raise unknown_cursor() from None
    return reply(list_page([to_wire(server, row) for row in found[:limit]], more=len(found) > limit))


def get_job(request: Request) -> Response:
    """`GET /fine_tuning/jobs/{id}`."""
    check_query(request.query_params)
    return reply(to_wire(server_of(request), find(request)))


async def post_action(request: Request) -> Response:
    """`POST /fine_tuning/jobs/{id}/cancel`, `/pause` and `/resume`. Each may be repeated."""
    check_query(request.query_params)
    server = server_of(request)
    await read_json(request, server.limits, empty=True)
    row = await server.threads.run(request, act, request, request.url.path.rpartition("/")[2])
    return reply(to_wire(server, row))


def list_events(request: Request) -> Response:
    """`GET /fine_tuning/jobs/{id}/events`: newest first."""
    query = request.query_params
    check_query(query, "after", "limit")
    limit = limit_of(query, 20, 1000)
    found = events_of(owned_of(request), server_of(request).events, find(request))
    return reply(page_after(found[::-1], query.get("after"), limit))


def list_checkpoints(request: Request) -> Response:
    """`GET /fine_tuning/jobs/{id}/checkpoints`: newest first."""
    query = request.query_params
    check_query(query, "after", "limit")
    return reply(page_after(checkpoints_of(find(request)), query.get("after"), limit_of(query, 10, 100)))


def act(request: Request, action: str) -> Row:
    """Cancel, pause or resume the job that a request names. Returns its row afterwards. Raises WireError."""
    server, owned, row = server_of(request), owned_of(request), find(request)
    id_, status = row["id"], row["status"]
    done = {"cancel": ("cancelled",), "pause": ("paused", "pausing"), "resume": ()}[action]
    if row["over"] and status not in done:
        raise bad(f"Job has already completed: {id_} is {status}.", code="invalid_job_state")
    if not row["over"] and row["want"] != "cancel" and status not in done:
        try:
            _act(server, owned, row, action)
        except TuneportError as error:
            raise from_tuneport(error) from error
    return find(request)


def _act(server: Server, owned: Owned, row: Row, action: str) -> None:
    id_ = row["id"]
    if action == "resume":
        server.trainer.resume(id_)
        return
    if action == "pause":
        backend = open_backend(Ref.parse(row["base"]).backend)
        if action not in backend.capabilities.verbs:
            raise UnsupportedError(f"This server's backend {backend.name!r} cannot pause a job.")
    owned.update_job(id_, want=action)
    if action == "pause" and row["ref"] is None:
        owned.update_job(id_, status="paused")
    try:
        server.trainer.look(id_)
    except TuneportError:
        if action == "pause":
            owned.update_job(id_, want="")
        raise


def find(request: Request) -> Row:
    """Return the job that a request names. Raises WireError if its owner has no such job."""
    id_ = request.path_params["job_id"]
    row = owned_of(request).job(id_)
    if row is None:
        raise missing("fine-tuning job", id_, "fine_tuning_job_id", "fine_tune_not_found")
    return row


def to_wire(server: Server, row: Row) -> dict[str, Any]:
    """Return the wire's job object."""
    asked = json.loads(row["request"])["asked"]
    numbers = {name: asked[name] for name in ("n_epochs", "batch_size", "learning_rate_multiplier")}
    method = asked["method"]
    details = {**numbers, **({"beta": asked["beta"]} if "beta" in asked else {})}
    succeeded = row["status"] == "succeeded"
    return {
        "object": "fine_tuning.job",
        "id": row["id"],
        "model": row["model"],
        "created_at": int(row["created"]),
        "finished_at": row["finished"],
        "fine_tuned_model": row["tuned"] if succeeded else None,
        "organization_id": row["owner"],
        "result_files": [row["result_file"]] if row["result_file"] else [],
        "status": row["status"],
        "validation_file": row["validation_file"],
        "training_file": row["training_file"],
        "hyperparameters": numbers,
        "trained_tokens": row["tokens"],
        "error": json.loads(row["error"]) if row["error"] else None,
        "integrations": [],
        "seed": asked["seed"],
        "estimated_finish": server.trainer.estimated_finish(row["id"]),
        "method": {"type": method, method: {"hyperparameters": details}},
        "metadata": json.loads(row["metadata"]),
    }


ROUTES = [
    Route("/v1/fine_tuning/jobs", list_jobs, methods=["GET"]),
    Route("/v1/fine_tuning/jobs/{job_id}", get_job, methods=["GET"]),
    Route("/v1/fine_tuning/jobs/{job_id}/events", expensive(list_events), methods=["GET"]),
    Route("/v1/fine_tuning/jobs/{job_id}/checkpoints", expensive(list_checkpoints), methods=["GET"]),
    *(Route(f"/v1/fine_tuning/jobs/{{job_id}}/{action}", post_action, methods=["POST"]) for action in ACTIONS),
]
