"""`POST /v1/fine_tuning/jobs`: what a request may contain, and why a retry creates no second job."""

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
from tuneport_server.background.hyperparameters import TrainingRequest, check_training
from tuneport_server.bodies import read_json
from tuneport_server.routes import jobs
from tuneport_server.routes.models import resolve
from tuneport_server.server import Server, owned_of, server_of
from tuneport_server.store import Owned, Row
from tuneport_server.vault import PURPOSE
from tuneport_server.wire import Body, WireError, bad, check_query, from_tuneport, parse, reply

_SAME_SECONDS = 15 * 60.0  # how long a retry is recognized; the official client gives up long before


def _auto_or(kind: type[int] | type[float], least: float, most: float, expected: str) -> AfterValidator:
    def check(value: Any) -> Any:
        number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        if value == "auto" or (number and least <= value <= most):
            return value
        raise ValueError(f"should be 'auto' or {expected}")

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
    """What identifies a request and its retries: the hash of its body, the client's retry count, when it arrived."""

    body: str
    retry: int
    arrived: float


async def create(request: Request) -> Response:
    """`POST /fine_tuning/jobs`."""
    arrived = time.time()
    check_query(request.query_params)
    server = server_of(request)
    body = await read_json(request, server.limits)
    creation = parse(_Creation, body)
    retries = request.headers.get("x-stainless-retry-count", "0")
    retry = int(retries) if retries.isdecimal() and len(retries) < 6 else 0
    hashed = hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()
    attempt = _Attempt(hashed, retry, arrived)
    row = await server.threads.run(request, _create, server, owned_of(request), creation, attempt)
    server.trainer.wake()
    return reply(jobs.to_wire(server, row))


def _create(server: Server, owned: Owned, creation: _Creation, attempt: _Attempt) -> Row:
    existing = _find_repeated(owned, attempt)
    if existing is not None:
        return existing
    training = _training(creation)
    base = resolve(server, owned, creation.model)
    for param in ("training_file", "validation_file"):
        id_ = getattr(creation, param)
        if id_ is None:
            continue
        file = owned.file(id_)
        if file is None:
            raise bad(f"{param}: there is no file {id_[:100]}.", param, "invalid_file")
        if file["purpose"] != PURPOSE:
            raise bad(f"{param}: has the purpose {file['purpose']}, not {PURPOSE}.", param, "invalid_file_purpose")
    try:
        check_training(TrainingRequest(base=base, **training))
    except (UnsupportedError, UsageError) as error:
        raise bad(error.message, "method", "unsupported") from error
    except TuneportError as error:
        raise from_tuneport(error, "model") from error
    return _insert(server, owned, creation, training, str(base), attempt)


def _insert(
    server: Server, owned: Owned, creation: _Creation, training: dict[str, Any], base: str, attempt: _Attempt
) -> Row:
    id_ = "ftjob-" + secrets.token_hex(12)
    root = creation.model.split(":")[1] if creation.model.startswith("ft:") else creation.model
    suffix = "".join(one if one.isascii() and one.isalnum() else "-" for one in creation.suffix or "")
    inputs = {"training_file": creation.training_file, "validation_file": creation.validation_file}
    with owned.transaction(), server.vault.link_inputs(id_, inputs) as link:
        existing = _find_repeated(owned, attempt)  # another attempt of the same request may have come first
        if existing is not None:
            return existing
        if (count := owned.open_jobs()) >= server.limits.open_jobs:
            raise WireError(429, f"{count} jobs are not over yet: wait for some of them.", code="too_many_jobs")
        for param, file in inputs.items():
            if file is not None and (owned.file(file) is None or not link(param)):
                raise bad(f"{param}: was deleted just now.", param, "invalid_file")
        return owned.add_job(
            id_,
            created=attempt.arrived,
            same=attempt.body,
            retry=attempt.retry,
            model=creation.model,
            base=base,
            tuned=f"ft:{root}:{owned.owner}:{suffix}:{id_[-8:]}",
            training_file=creation.training_file,
            validation_file=creation.validation_file,
            request=json.dumps({"asked": training, "suffix": creation.suffix}),
            metadata=json.dumps(creation.metadata or {}),
            status="validating_files",
        )


def _find_repeated(owned: Owned, attempt: _Attempt) -> Row | None:
    """Return the job that another attempt of the same request has created.

    The official client sends no idempotency key. It sends the same body again, with the number of the attempt.
    """
    return owned.repeated_job(attempt.body, attempt.retry, attempt.arrived, _SAME_SECONDS)


def _training(creation: _Creation) -> dict[str, Any]:
    """Return the fields of `TrainingRequest` except `base`."""
    if creation.integrations:
        raise bad("integrations: this server does not support them.", "integrations", "unsupported_parameter")
    method = creation.method.type if creation.method else "supervised"
    if creation.method is not None:
        for other in ("supervised", "dpo", "reinforcement"):
            if other != method and getattr(creation.method, other) is not None:
                raise bad(f"method.{other}: the type is {method}.", f"method.{other}", "invalid_value")
    details = getattr(creation.method, method) if creation.method else None
    if method == "reinforcement":
        details = None
    given = (details.hyperparameters if details else None) or creation.hyperparameters or _Hyperparameters()
    return {"method": method, "seed": creation.seed or 0, **given.model_dump()}


ROUTES = [Route("/v1/fine_tuning/jobs", create, methods=["POST"])]
