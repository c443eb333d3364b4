"""From the wire's hyperparameters to a backend's settings, by the rules in docs/server.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import tuneport
import tuneport.plugin
from tuneport.errors import UnsupportedError
from tuneport.plugin import Conversation, Dataset, Message, Preference, Ref

METHODS: Mapping[str, Literal["sft", "dpo", "reinforcement"]] = {
    "supervised": "sft",
    "dpo": "dpo",
    "reinforcement": "reinforcement",
}
Auto = Literal["auto"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """A training as the wire describes it."""

    base: Ref
    method: str = "supervised"
    n_epochs: int | Auto = "auto"
    batch_size: int | Auto = "auto"
    learning_rate_multiplier: float | Auto = "auto"
    beta: float | Auto = "auto"
    seed: int = 0


def training_of(job: Mapping[str, Any]) -> TrainingRequest:
    """Return the training that a job's row describes."""
    return TrainingRequest(base=Ref.parse(job["base"]), **json.loads(job["request"])["asked"])


def settings_for(request: TrainingRequest, data: Dataset, validation: Dataset | None = None) -> dict[str, Any]:
    """Return the backend's settings for these rows; see `tuneport.plugin.translate_settings`."""
    return tuneport.plugin.translate_settings(
        request.base,
        data,
        validation,
        method=METHODS[request.method],
        epochs=request.n_epochs,
        seed=request.seed,
        batch_size=request.batch_size,
        learning_rate_multiplier=request.learning_rate_multiplier,
        beta=request.beta,
    )


def check_training(request: TrainingRequest) -> None:
    """Check what does not depend on the rows: the method, the base and the settings. Raises what a start would
    raise.
    """
    backend = tuneport.open_backend(request.base.backend)
    if METHODS[request.method] not in backend.capabilities.methods:
        raise UnsupportedError(
            f"This server's backend {backend.name!r} does not support the method {request.method!r}."
        )
    rows = _one_row(request.method)
    tuneport.plan(
        request.base,
        rows,
        method=METHODS[request.method],
        epochs=request.n_epochs,
        seed=request.seed,
        settings=settings_for(request, rows),
    )


def _one_row(method: str) -> Dataset:
    question, answer = (Message(role="user", content="Hello"),), (Message(role="assistant", content="Hello!"),)
    if method == "dpo":
        worse = (Message(role="assistant", content="What?"),)
        return Dataset.from_examples([Preference(prompt=question, chosen=answer, rejected=worse)])
    return Dataset.from_examples([Conversation(messages=question + answer)])
