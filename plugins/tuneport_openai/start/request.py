"""A training as a request of the wire: what is refused before anything is sent, what is sent, what is kept of it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, cast

from tuneport.errors import UsageError
from tuneport.plugin import home, utc_now
from tuneport_openai.catalogue import table
from tuneport_openai.start.rules import write_file
from tuneport_openai.wire.client import INTENT

if TYPE_CHECKING:
    from tuneport.plugin import DataRules, TrainRequest
    from tuneport_openai.config import OpenAISettings
    from tuneport_openai.wire.profiles import Profile

_METHODS = {"sft": "supervised", "dpo": "dpo", "reinforcement": "reinforcement"}
_MOST_EPOCHS = 50


def written(endpoint: Profile, request: TrainRequest, model: str, drop: DataRules | None) -> dict[str, Any]:
    """Write the files that are sent, and return all that the start needs from then on, whichever process goes on.

    `model` is the base by the server's own name; `drop` leaves out rows that are longer than that profile takes.
    Raises UsageError for what the wire refuses, before anything is written.
    """
    body = _body(endpoint, request, model)
    method, folder = request.options.method, home("openai", "files")
    parts = {"train": request.train, "validation": request.validation}
    files = {
        part: write_file(rows, folder, method, drop=drop)
        for part, rows in parts.items()
        if rows is not None and len(rows)
    }
    return {
        "version": 1,
        "intent": request.intent,
        "endpoint": endpoint.base_url,
        "body": body,
        "base": str(request.base),
        "method": method,
        "fingerprint": request.train.fingerprint,
        "system": files["train"].system,
        "settings": request.settings.model_dump(mode="json", exclude_defaults=True),
        "versions": _versions(),
        "created": utc_now().isoformat(),
        "usd_per_million_tokens": _price(endpoint, request, model),
        "files": {
            part: {
                "path": str(one.path),
                "sha256": one.sha256,
                "bytes": one.bytes,
                "rows": one.rows,
                "dropped": one.dropped,
                "name": one.name,
            }
            for part, one in files.items()
        },
    }


def _body(endpoint: Profile, request: TrainRequest, model: str) -> dict[str, Any]:
    """The request that creates the job, without its files."""
    options, settings = request.options, cast("OpenAISettings", request.settings)
    _refuse(endpoint, request, settings)
    inner: dict[str, Any] = {
        "n_epochs": options.epochs,
        "batch_size": settings.batch_size,
        "learning_rate_multiplier": settings.learning_rate_multiplier,
    }
    chosen: dict[str, Any] = {"hyperparameters": inner}
    if options.method == "dpo":
        inner["beta"] = settings.beta
    if options.method == "reinforcement" and settings.grader is not None:
        chosen["grader"] = settings.grader.model_dump(mode="json", exclude_none=True)
        named = ("compute_multiplier", "eval_interval", "eval_samples", "reasoning_effort")
        inner |= {name: getattr(settings, name) for name in named if getattr(settings, name) not in (None, "auto")}
    kind = _METHODS[options.method]
    body: dict[str, Any] = {
        "model": model,
        "method": {"type": kind, kind: chosen},
        "seed": options.seed,
        "metadata": {**_metadata(request), INTENT: request.intent},
    }
    if options.suffix:
        body["suffix"] = options.suffix
    if settings.wandb is not None:
        wandb = settings.wandb.model_dump(mode="json", exclude_defaults=True)
        body["integrations"] = [{"type": "wandb", "wandb": wandb}]
    if settings.training_type is not None:
        body["extra_body"] = {"trainingType": settings.training_type}
    return body


def _refuse(endpoint: Profile, request: TrainRequest, settings: OpenAISettings) -> None:
    options = request.options
    longest = table.longest_suffix(endpoint)
    if options.suffix and len(options.suffix) > longest:
        raise UsageError(
            f"The suffix has {len(options.suffix)} characters; {endpoint.name} takes {longest}.",
            remedy="Shorten train.suffix.",
        )
    if options.epochs != "auto" and options.epochs > _MOST_EPOCHS:
        raise UsageError(f"{options.epochs} epochs; the wire takes {_MOST_EPOCHS}.", remedy="Lower train.epochs.")
    if options.method == "reinforcement" and settings.grader is None:
        raise UsageError(
            "Reinforcement needs a grader.", remedy=f"Set backends.{endpoint.name}.grader; see docs/openai.md."
        )
    azures = "training_type" if settings.training_type is not None else "deploy" if settings.deploy else None
    if azures is not None and endpoint.vendor != "azure":
        raise UsageError(f"{azures} is Azure's.", remedy=f"Leave it out of backends.{endpoint.name}.")
    metadata = _metadata(request)
    if len(metadata) > 15 or any(len(k) > 64 or len(v) > 512 for k, v in metadata.items()):
        raise UsageError(
            "The wire takes 15 entries of metadata beside our own, with keys of 64 and values of 512 characters.",
            remedy="Leave some out, or shorten them.",
        )


def _metadata(request: TrainRequest) -> dict[str, str]:
    """The user's own: the intent goes under a key that tells whose it is."""
    return {key: value for key, value in request.metadata.items() if key != "intent"}


def _price(endpoint: Profile, request: TrainRequest, model: str) -> float | None:
    settings = cast("OpenAISettings", request.settings)
    if settings.usd_per_million_tokens is not None:
        return settings.usd_per_million_tokens
    facts = table.known(endpoint, model)
    return facts.training if facts else None


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in ("tuneport", "openai", "tiktoken"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
