"""From the wire's hyperparameters to a backend's settings, by the rules that docs/server.md tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import tuneport
from tuneport import Backend, Conversation, Dataset, Message, Plan, Preference, Ref, UnsupportedError

METHODS: Mapping[str, Literal["sft", "dpo", "reinforcement"]] = {
    "supervised": "sft",
    "dpo": "dpo",
    "reinforcement": "reinforcement",
}
Auto = Literal["auto"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a creation asks of a training, as the wire says it."""

    base: Ref
    method: str = "supervised"
    n_epochs: int | Auto = "auto"
    batch_size: int | Auto = "auto"
    learning_rate_multiplier: float | Auto = "auto"
    beta: float | Auto = "auto"
    seed: int = 0


def settings_for(asked: Asked, data: Dataset, validation: Dataset | None = None) -> dict[str, Any]:
    """The backend's settings for these rows. "auto" is left to the backend's own rule, by leaving it out.

    A backend that takes the wire's own quantities gets them. One that takes an absolute learning rate gets its own
    automatic rate times the multiplier; one that takes tokens per step gets the batch size times the mean row. Raises
    UnsupportedError where neither is so.
    """
    backend = tuneport.open_backend(asked.base.backend)
    known = backend.config_class.model_fields
    settings: dict[str, Any] = {}
    for name in ("learning_rate_multiplier", "batch_size", "beta"):
        value = getattr(asked, name)
        if value == "auto":
            continue
        if name in known:
            settings[name] = value
        elif name == "learning_rate_multiplier" and "learning_rate" in known:
            settings["learning_rate"] = _own_rate(asked, data, validation, backend) * value
        elif name == "batch_size" and "tokens_per_step" in known:
            settings["tokens_per_step"] = max(1, round(_mean_tokens(asked, data, validation) * value))
        else:
            raise _not_taken(backend, name)
    return settings


def refuse(asked: Asked) -> None:
    """Raise what a start would raise whatever the rows are: the method, the base, a setting that is not taken here."""
    backend = tuneport.open_backend(asked.base.backend)
    if METHODS[asked.method] not in backend.capabilities.methods:
        raise UnsupportedError(f"This server's backend {backend.name!r} cannot train by {asked.method!r}.")
    rows = _one_row(asked.method)
    _plan(asked, rows, None, settings_for(asked, rows))


def _own_rate(asked: Asked, data: Dataset, validation: Dataset | None, backend: Backend) -> float:
    rate = _plan(asked, data, validation, {}).resolved.get("learning_rate")
    if not isinstance(rate, int | float):
        raise _not_taken(backend, "learning_rate_multiplier")
    return float(rate)


def _mean_tokens(asked: Asked, data: Dataset, validation: Dataset | None) -> float:
    """Tokens of the mean row, by the backend's own count or estimate."""
    foretold = _plan(asked, data, validation, {})
    rows = foretold.rows * (foretold.epochs.value or 1)
    if not foretold.tokens.value or not rows:
        raise UnsupportedError("batch_size: nobody knows here how long the rows are in tokens. Leave it at auto.")
    return foretold.tokens.value / rows


def _plan(asked: Asked, data: Dataset, validation: Dataset | None, settings: Mapping[str, Any]) -> Plan:
    return tuneport.plan(
        asked.base,
        data,
        validation=validation,
        method=METHODS[asked.method],
        epochs=asked.n_epochs,
        seed=asked.seed,
        settings=settings,
    )


def _one_row(method: str) -> Dataset:
    question, answer = (Message(role="user", content="Hello"),), (Message(role="assistant", content="Hello!"),)
    if method == "dpo":
        worse = (Message(role="assistant", content="What?"),)
        return Dataset.from_examples([Preference(prompt=question, chosen=answer, rejected=worse)])
    return Dataset.from_examples([Conversation(messages=question + answer)])


def _not_taken(backend: Backend, name: str) -> UnsupportedError:
    return UnsupportedError(f"This server's backend {backend.name!r} takes no {name}. Leave it at auto.")
