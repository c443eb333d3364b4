"""`POST /v1/fine_tuning/jobs`: what a creation may ask, and why a retry of it makes no second job."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from pydantic import AfterValidator, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tuneport.errors import TuneportError, UnsupportedError, UsageError
from tuneport_server import jobs
from tuneport_server.background.hyperparameters import Asked, refuse
from tuneport_server.bodies import read_json
from tuneport_server.routes.files import PURPOSE, find_file, linked_inputs
from tuneport_server.routes.models import resolve
from tuneport_server.server import Server, owner_of, server_of
from tuneport_server.store import Row
from tuneport_server.wire import Body, WireError, bad, of_tuneport, only, parse, reply

_SAME_SECONDS = 15 * 60.0  # how long a retry is known as one; the official client gives up long before


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


class _Attempt(NamedTuple):
    """What tells one request from another: the hash of its body, the client's count of retries, when it came."""

    same: str
    retry: int
    arrived: float


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
    row = await server.pool.run(request, _create, server, owner, asked, _Attempt(same, retry, arrived))
    server.trainer.wake()
    return reply(jobs.wire(server, row))


def _create(server: Server, owner: str, asked: _Creation, attempt: _Attempt) -> Row:
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
    server: Server, owner: str, asked: _Creation, training: dict[str, Any], base: str, attempt: _Attempt
) -> Row:
    id_ = "ftjob-" + secrets.token_hex(12)
    root = asked.model.split(":")[1] if asked.model.startswith("ft:") else asked.model
    suffix = "".join(one if one.isascii() and one.isalnum() else "-" for one in asked.suffix or "")
    store = server.store
    inputs = {"training_file": asked.training_file, "validation_file": asked.validation_file}
    with store.write(), linked_inputs(server, id_, inputs) as link:
        again = _already(server, owner, attempt)  # another attempt of the same request may have come first
        if again is not None:
            return again
        waiting = store.row("SELECT count(*) AS n FROM jobs WHERE owner = ? AND over = 0", owner)
        if waiting is not None and waiting["n"] >= server.limits.open_jobs:
            raise WireError(429, f"{waiting['n']} jobs are not over yet: wait for some.", code="too_many_jobs")
        for param, file in inputs.items():
            if file is not None and (find_file(server, owner, file) is None or not link(param)):
                raise bad(f"{param}: was deleted just now.", param, "invalid_file")
        store.insert(
            "jobs",
            id=id_,
            owner=owner,
            created=attempt.arrived,
            same=attempt.same,
            retry=attempt.retry,
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


def _already(server: Server, owner: str, attempt: _Attempt) -> Row | None:
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
        raise bad("integrations: this server does not support them.", "integrations", "unsupported_parameter")
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


ROUTES = [Route("/v1/fine_tuning/jobs", create, methods=["POST"])]
