"""A training as a request of the wire: what is refused before anything is sent, what is sent, and what is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tuneport.errors import UsageError
from tuneport.plugin import home, installed_versions, utc_now
from tuneport_openai.catalog import table
from tuneport_openai.config import NebiusSettings, OpenAISettings
from tuneport_openai.graders import wire_grader
from tuneport_openai.start.rules import WireFile, write_rows
from tuneport_openai.start.submit import suffix_mark
from tuneport_openai.wire.client import INTENT

if TYPE_CHECKING:
    from tuneport.plugin import DataRules, TrainRequest
    from tuneport_openai.wire.profiles import Profile

_METHODS = {"sft": "supervised", "dpo": "dpo", "reinforcement": "reinforcement"}
MOST_EPOCHS = 50


def write_request(endpoint: Profile, request: TrainRequest, model: str, drop: DataRules | None) -> dict[str, Any]:
    """Write the files that are sent, and return everything that the start needs later, in any process.

    `model` is the base by the server's own name; `drop` leaves out rows that are longer than these rules allow. Raises
    UsageError for what the vendor refuses, before anything is written.
    """
    body = _body(endpoint, request, model)
    method, folder = request.options.method, home("openai", "files")
    parts = {"train": request.train, "validation": request.validation}
    files = {
        part: write_rows(rows, folder, method, drop=drop)
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
        "versions": installed_versions("openai", "tiktoken"),
        "created": utc_now().isoformat(),
        "usd_per_million_tokens": _price(endpoint, request, model),
        "files": {part: _facts(one, endpoint, request) for part, one in files.items()},
    }


def _facts(file: WireFile, endpoint: Profile, request: TrainRequest) -> dict[str, Any]:
    name = file.name
    if endpoint.traits.mark == "file":  # the file's id is what tells our job from others
        name = name.replace(".jsonl", f"-{request.intent}.jsonl")
    return {
        "path": str(file.path),
        "sha256": file.sha256,
        "bytes": file.bytes,
        "rows": file.rows,
        "dropped": file.dropped,
        "name": name,
    }


def _body(endpoint: Profile, request: TrainRequest, model: str) -> dict[str, Any]:
    """The request that creates the job, without its files."""
    options, settings, traits = request.options, request.settings, endpoint.traits
    if not isinstance(settings, OpenAISettings | NebiusSettings):
        raise TypeError(f"these are not settings of this plugin: {type(settings).__name__}")
    _refuse(endpoint, request)
    values = settings.hyperparameters(options.method, options.epochs)
    if not traits.sends_auto:
        values = {name: value for name, value in values.items() if value != "auto"}
    chosen: dict[str, Any] = {"hyperparameters": values}
    kind = _METHODS[options.method]
    body: dict[str, Any] = {"model": model, "method": {"type": kind, kind: chosen}}
    if traits.takes_seed and options.seed is not None:
        body["seed"] = options.seed
    if traits.mark == "metadata":
        body["metadata"] = {**_metadata(request), INTENT: request.intent}
    if traits.mark == "suffix":
        mark = suffix_mark(request.intent)
        body["suffix"] = f"{options.suffix}-{mark}" if options.suffix else mark
    elif options.suffix:
        body["suffix"] = options.suffix
    if isinstance(settings, OpenAISettings):
        if options.method == "reinforcement" and settings.grader is not None:
            chosen["grader"] = wire_grader(settings.grader)
        if settings.wandb is not None:
            wandb = settings.wandb.model_dump(mode="json", exclude_defaults=True)
            body["integrations"] = [{"type": "wandb", "wandb": wandb}]
        if settings.training_type is not None:
            body["extra_body"] = {"trainingType": settings.training_type}
    return body


def _refuse(endpoint: Profile, request: TrainRequest) -> None:
    """Raise UsageError for what this vendor does not take."""
    options = request.options
    _refuse_suffix(endpoint, request)
    if options.epochs != "auto" and options.epochs > MOST_EPOCHS:
        raise UsageError(f"{options.epochs} epochs: the API takes up to {MOST_EPOCHS}.", remedy="Lower train.epochs.")
    if options.seed and not endpoint.traits.takes_seed:  # 0 is the default of a config
        raise UsageError(f"{endpoint.traits.title} takes no seed.", remedy="Set train.seed to null.")
    if isinstance(request.settings, OpenAISettings):
        _refuse_settings(endpoint, options.method, request.settings)
    metadata = _metadata(request)
    if metadata and endpoint.traits.mark != "metadata":
        raise UsageError(f"{endpoint.traits.title} takes no metadata.", remedy="Leave the metadata out.")
    if len(metadata) > 15 or any(len(k) > 64 or len(v) > 512 for k, v in metadata.items()):
        raise UsageError(
            "The wire takes 15 entries of metadata in addition to ours, with keys of up to 64 and values of up to 512 "
            "characters.",
            remedy="Leave some out, or shorten them.",
        )


def _refuse_suffix(endpoint: Profile, request: TrainRequest) -> None:
    traits, suffix = endpoint.traits, request.options.suffix
    if not suffix:
        return
    if not traits.longest_suffix:
        raise UsageError(f"{traits.title} takes no suffix.", remedy="Leave out train.suffix.")
    room = traits.longest_suffix - (len(suffix_mark(request.intent)) + 1 if traits.mark == "suffix" else 0)
    if len(suffix) > room:
        raise UsageError(
            f"The suffix has {len(suffix)} characters; {endpoint.name} takes up to {room}.",
            remedy="Shorten train.suffix.",
        )


def _refuse_settings(endpoint: Profile, method: str, settings: OpenAISettings) -> None:
    traits, section = endpoint.traits, f"backends.{endpoint.name}"
    if method == "reinforcement" and settings.grader is None:
        raise UsageError("Reinforcement needs a grader.", remedy=f"Set {section}.grader; see docs/openai.md.")
    if settings.grader is not None and settings.grader.type not in traits.graders:
        known = ", ".join(sorted(traits.graders))
        raise UsageError(
            f"{endpoint.name} takes no grader of type {settings.grader.type}.",
            remedy=f"Choose another {section}.grader.type: {known}." if known else f"Leave out {section}.grader.",
        )
    azure_only = "training_type" if settings.training_type is not None else "deploy" if settings.deploy else None
    if azure_only is not None and endpoint.vendor != "azure":
        raise UsageError(f"Only Azure takes {azure_only}.", remedy=f"Leave it out of {section}.")


def _metadata(request: TrainRequest) -> dict[str, str]:
    """The user's own entries: the intent is sent under a key that names tuneport."""
    return {key: value for key, value in request.metadata.items() if key != "intent"}


def _price(endpoint: Profile, request: TrainRequest, model: str) -> float | None:
    price: float | None = cast("OpenAISettings", request.settings).usd_per_million_tokens
    if price is not None:
        return price
    facts = table.find_model(endpoint, model)
    return facts.training if facts else None
