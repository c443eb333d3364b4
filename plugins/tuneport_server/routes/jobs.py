"""`/v1/fine_tuning/jobs`: lists, verbs, events and checkpoints."""

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
from tuneport_server.server import Server, owner_of, server_of
from tuneport_server.store import Row
from tuneport_server.wire import after, bad, limit_of, missing, of_tuneport, only, page, reply

VERBS = ("cancel", "pause", "resume")


def list_jobs(request: Request) -> Response:
    """`GET /fine_tuning/jobs`: newest first; `metadata[key]=value` for those that have it, `metadata=null` for none."""
    server, owner, query = server_of(request), owner_of(request), request.query_params
    only(query, "after", "limit", "metadata")
    limit, cursor = limit_of(query, 20, 100), query.get("after")
    where, values = ["owner = ?"], [owner]
    if query.get("metadata", "null") != "null":
        raise bad("metadata: write metadata[key]=value, or metadata=null.", "metadata", "invalid_value")
    if "metadata" in query:
        where.append("metadata = '{}'")
    for name, value in query.multi_items():
        if name.startswith("metadata["):
            where.append("EXISTS (SELECT 1 FROM json_each(jobs.metadata) WHERE key = ? AND json_each.value = ?)")
            values += [name.removeprefix("metadata[").removesuffix("]"), value]
    if len(values) > 33:
        raise bad("metadata: asks for more than 16 pairs.", "metadata", "invalid_value")
    if cursor is not None:
        found = server.store.row("SELECT n FROM jobs WHERE id = ? AND owner = ?", cursor, owner)
        if found is None:
            raise bad("after: names nothing in this list.", "after", "invalid_value")
        where.append("n < ?")
        values.append(found["n"])
    condition = " AND ".join(where)
    rows = server.store.rows(f"SELECT * FROM jobs WHERE {condition} ORDER BY n DESC LIMIT ?", *values, limit + 1)  # noqa: S608 - conditions of our own
    return reply(page([wire(server, row) for row in rows[:limit]], more=len(rows) > limit))


def get_job(request: Request) -> Response:
    """`GET /fine_tuning/jobs/{id}`."""
    only(request.query_params)
    return reply(wire(server_of(request), find(request)))


async def act(request: Request) -> Response:
    """`POST /fine_tuning/jobs/{id}/cancel`, `/pause` and `/resume`. Each may be repeated."""
    only(request.query_params)
    await read_json(request, server_of(request).limits, empty=True)
    row = await server_of(request).pool.run(request, act_on, request, request.url.path.rpartition("/")[2])
    return reply(wire(server_of(request), row))


def list_events(request: Request) -> Response:
    """`GET /fine_tuning/jobs/{id}/events`: newest first."""
    query = request.query_params
    only(query, "after", "limit")
    limit = limit_of(query, 20, 1000)
    found = events_of(server_of(request), find(request))
    return reply(after(found[::-1], query.get("after"), limit))


def list_checkpoints(request: Request) -> Response:
    """`GET /fine_tuning/jobs/{id}/checkpoints`: newest first."""
    query = request.query_params
    only(query, "after", "limit")
    return reply(after(checkpoints_of(find(request)), query.get("after"), limit_of(query, 10, 100)))


def act_on(request: Request, verb: str) -> Row:
    """Cancel, pause or resume the job that a request names; its row then. Raises WireError."""
    server, row = server_of(request), find(request)
    id_, status = row["id"], row["status"]
    done = {"cancel": ("cancelled",), "pause": ("paused", "pausing"), "resume": ()}[verb]
    if row["over"] and status not in done:
        raise bad(f"Job has already completed: {id_} is {status}.", code="invalid_job_state")
    if not row["over"] and row["want"] != "cancel" and status not in done:
        _do(server, row, verb)
    found = server.store.row("SELECT * FROM jobs WHERE id = ?", id_)
    assert found is not None  # no job is ever forgotten
    return found


def _do(server: Server, row: Row, verb: str) -> None:
    id_ = row["id"]
    try:
        if verb == "resume":
            server.trainer.resume(id_)
            return
        if verb == "pause":
            _refuse_verb(row, verb)
        server.store.update("jobs", id_, want=verb)
        if verb == "pause" and row["ref"] is None:
            server.store.update("jobs", id_, status="paused")
        server.trainer.look(id_)
    except TuneportError as error:
        if verb == "pause":
            server.store.update("jobs", id_, want="")
        raise of_tuneport(error) from error


def _refuse_verb(row: Row, verb: str) -> None:
    backend = open_backend(Ref.parse(row["base"]).backend)
    if verb not in backend.capabilities.verbs:
        raise UnsupportedError(f"This server's backend {backend.name!r} cannot {verb} a job.")


def find(request: Request) -> Row:
    """The job that a request names; raises WireError where its owner has no such."""
    id_ = request.path_params["job_id"]
    row = server_of(request).store.row("SELECT * FROM jobs WHERE id = ? AND owner = ?", id_, owner_of(request))
    if row is None:
        raise missing("fine-tuning job", id_, "fine_tuning_job_id", "fine_tune_not_found")
    return row


def wire(server: Server, row: Row) -> dict[str, Any]:
    """The wire's job object."""
    asked = json.loads(row["request"])["asked"]
    numbers = {name: asked[name] for name in ("n_epochs", "batch_size", "learning_rate_multiplier")}
    kind = asked["method"]
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
        "estimated_finish": server.trainer.estimate(row["id"]),
        "method": {"type": kind, kind: {"hyperparameters": details}},
        "metadata": json.loads(row["metadata"]),
    }


ROUTES = [
    Route("/v1/fine_tuning/jobs", list_jobs, methods=["GET"]),
    Route("/v1/fine_tuning/jobs/{job_id}", get_job, methods=["GET"]),
    Route("/v1/fine_tuning/jobs/{job_id}/events", expensive(list_events), methods=["GET"]),
    Route("/v1/fine_tuning/jobs/{job_id}/checkpoints", expensive(list_checkpoints), methods=["GET"]),
    *(Route(f"/v1/fine_tuning/jobs/{{job_id}}/{verb}", act, methods=["POST"]) for verb in VERBS),
]
