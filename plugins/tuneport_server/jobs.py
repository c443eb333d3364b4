"""`/v1/fine_tuning/jobs`: creation that a retry does not repeat, lists, verbs, events and checkpoints."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tuneport import Ref, TuneportError, UnsupportedError, UsageError, open_backend
from tuneport_server.bodies import read_json
from tuneport_server.events import checkpoints_of, events_of
from tuneport_server.files import PURPOSE, find_file
from tuneport_server.hyperparameters import Asked, refuse
from tuneport_server.models import resolve
from tuneport_server.server import Server, owner_of, server_of
from tuneport_server.store import Row
from tuneport_server.wire import Body, WireError, after, bad, limit_of, missing, of_tuneport, only, page, parse, reply

_SAME_SECONDS = 15 * 60.0  # how long a retry is known as one; the official client gives up long before
VERBS = ("cancel", "pause", "resume")


def _auto_or(kind: type[int] | type[float], least: float, most: float, said: str) -> AfterValidator:
    def check(value: Any) -> Any:
        number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        if value == "auto" or (number and least <= value <= most):
            return value
        raise ValueError(f"should be 'auto' or {said}")

    return AfterValidator(check)


_Epochs = Annotated[Any, _auto_or(int, 1, 50, "a whole number from 1 to 50")]
_Batch = Annotated[Any, _auto_or(int, 1, 256, "a whole number from 1 to 256")]
_Rate = Annotated[Any, _auto_or(float, 1e-9, 1e9, "a number above 0")]
_Beta = Annotated[Any, _auto_or(float, 1e-9, 2, "a number above 0 and at most 2")]


class _Hyperparameters(Body):
    n_epochs: _Epochs = "auto"
    batch_size: _Batch = "auto"
    learning_rate_multiplier: _Rate = "auto"


class _DpoHyperparameters(_Hyperparameters):
    beta: _Beta = "auto"


class _Supervised(Body):
    hyperparameters: _Hyperparameters | None = None


class _Dpo(Body):
    hyperparameters: _DpoHyperparameters | None = None


class _Method(Body):
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: _Supervised | None = None
    dpo: _Dpo | None = None
    reinforcement: dict[str, Any] | None = None


_Key = Annotated[str, Field(max_length=64)]
_Text = Annotated[str, Field(max_length=512)]
_Name = Annotated[str, Field(min_length=1, max_length=512)]


class _Creation(Body):
    model: _Name
    training_file: _Name
    validation_file: _Name | None = None
    method: _Method | None = None
    hyperparameters: _Hyperparameters | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2147483647)] | None = None
    metadata: Annotated[dict[_Key, _Text], Field(max_length=16)] | None = None
    integrations: list[Any] | None = None


async def create(request: Request) -> Response:
    """`POST /fine_tuning/jobs`."""
    arrived = time.time()
    only(request.query_params)
    server, owner = server_of(request), owner_of(request)
    body = await read_json(request, server.limits)
    asked = parse(_Creation, body)
    retries = request.headers.get("x-stainless-retry-count", "0")
    retry = int(retries) if retries.isdecimal() and len(retries) < 6 else 0
    same = hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()
    row = await run_in_threadpool(_create, server, owner, asked, (same, retry, arrived))
    server.trainer.wake()
    return reply(_wire(server, row))


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
    return reply(page([_wire(server, row) for row in rows[:limit]], more=len(rows) > limit))


def get_job(request: Request) -> Response:
    """`GET /fine_tuning/jobs/{id}`."""
    only(request.query_params)
    return reply(_wire(server_of(request), find(request)))


async def act(request: Request) -> Response:
    """`POST /fine_tuning/jobs/{id}/cancel`, `/pause` and `/resume`. Each may be repeated."""
    only(request.query_params)
    if request.path_params["verb"] not in VERBS:
        raise missing("page", request.url.path)
    await read_json(request, server_of(request).limits, empty=True)
    row = await run_in_threadpool(act_on, request, request.path_params["verb"])
    return reply(_wire(server_of(request), row))


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


def _create(server: Server, owner: str, asked: _Creation, attempt: tuple[str, int, float]) -> Row:
    again = _already(server, owner, attempt)
    if again is not None:
        return again
    training = _asks(asked)
    base = resolve(server, owner, asked.model)
    for param in ("training_file", "validation_file"):
        id_ = getattr(asked, param)
        if id_ is None:
            continue
        file = find_file(server, owner, id_)
        if file is None:
            raise bad(f"{param}: there is no file {id_[:100]}.", param, "invalid_file")
        if file["purpose"] != PURPOSE:
            raise bad(f"{param}: is a file for {file['purpose']}, not for {PURPOSE}.", param, "invalid_file_purpose")
    try:
        refuse(Asked(base=base, **training))
    except (UnsupportedError, UsageError) as error:
        raise bad(error.message, "method", "unsupported") from error
    except TuneportError as error:
        raise of_tuneport(error, "model") from error
    return _insert(server, owner, asked, training, str(base), attempt)


def _insert(
    server: Server, owner: str, asked: _Creation, training: dict[str, Any], base: str, attempt: tuple[str, int, float]
) -> Row:
    same, retry, arrived = attempt
    id_ = "ftjob-" + secrets.token_hex(12)
    root = asked.model.split(":")[1] if asked.model.startswith("ft:") else asked.model
    suffix = "".join(one if one.isascii() and one.isalnum() else "-" for one in asked.suffix or "")
    store = server.store
    with store.write():
        again = _already(server, owner, attempt)  # another attempt of the same request may have come first
        if again is not None:
            return again
        for param, file in (("training_file", asked.training_file), ("validation_file", asked.validation_file)):
            if file is not None and find_file(server, owner, file) is None:
                raise bad(f"{param}: was deleted just now.", param, "invalid_file")
        waiting = store.row("SELECT count(*) AS n FROM jobs WHERE owner = ? AND over = 0", owner)
        if waiting is not None and waiting["n"] >= server.limits.open_jobs:
            raise WireError(429, f"{waiting['n']} jobs are not over yet: wait for some.", code="too_many_jobs")
        store.insert(
            "jobs",
            id=id_,
            owner=owner,
            created=arrived,
            same=same,
            retry=retry,
            model=asked.model,
            base=base,
            tuned=f"ft:{root}:{owner}:{suffix}:{id_[-8:]}",
            training_file=asked.training_file,
            validation_file=asked.validation_file,
            request=json.dumps({"asked": training, "suffix": asked.suffix}),
            metadata=json.dumps(asked.metadata or {}),
            status="validating_files",
        )
        store.add_event(id_, f"Created fine-tuning job: {id_}")
        row = store.row("SELECT * FROM jobs WHERE id = ?", id_)
    assert row is not None
    return row


def _already(server: Server, owner: str, attempt: tuple[str, int, float]) -> Row | None:
    """The job that an earlier attempt of the same request has made, or a later one while this was on its way.

    An unmodified client sends no key, but says which attempt it is, and sends the very same body again.
    """
    same, retry, arrived = attempt
    return server.store.row(
        "SELECT * FROM jobs WHERE owner = ? AND same = ? AND created >= ? AND (? OR (retry > 0 AND created >= ?))"
        " ORDER BY n DESC",
        *(owner, same, arrived - _SAME_SECONDS, retry > 0, arrived),
    )


def _asks(asked: _Creation) -> dict[str, Any]:
    """The training that a creation describes, as the fields of `Asked` but the base."""
    if asked.integrations:
        raise bad("integrations: this server has none.", "integrations", "unsupported_parameter")
    kind = asked.method.type if asked.method else "supervised"
    if asked.method is not None:
        for other in ("supervised", "dpo", "reinforcement"):
            if other != kind and getattr(asked.method, other) is not None:
                raise bad(f"method.{other}: the type is {kind}.", f"method.{other}", "invalid_value")
    details = getattr(asked.method, kind) if asked.method else None
    if kind == "reinforcement":
        details = None
    given = (details.hyperparameters if details else None) or asked.hyperparameters or _Hyperparameters()
    return {"method": kind, "seed": asked.seed or 0, **given.model_dump()}


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


def _wire(server: Server, row: Row) -> dict[str, Any]:
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
    Route("/v1/fine_tuning/jobs", create, methods=["POST"]),
    Route("/v1/fine_tuning/jobs", list_jobs, methods=["GET"]),
    Route("/v1/fine_tuning/jobs/{job_id}", get_job, methods=["GET"]),
    Route("/v1/fine_tuning/jobs/{job_id}/events", list_events, methods=["GET"]),
    Route("/v1/fine_tuning/jobs/{job_id}/checkpoints", list_checkpoints, methods=["GET"]),
    Route("/v1/fine_tuning/jobs/{job_id}/{verb}", act, methods=["POST"]),
]
