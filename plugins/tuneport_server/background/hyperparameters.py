"""From the wire's hyperparameters to a backend's settings, by the rules that docs/server.md tells."""

from __future__ import annotations

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
    """The backend's settings for these rows; see `tuneport.plugin.translate_settings`."""
    return tuneport.plugin.translate_settings(
        asked.base,
        data,
        validation,
        method=METHODS[asked.method],
        epochs=asked.n_epochs,
        seed=asked.seed,
        batch_size=asked.batch_size,
        learning_rate_multiplier=asked.learning_rate_multiplier,
        beta=asked.beta,
    )


def refuse(asked: Asked) -> None:
    """Raise what a start would raise whatever the rows are: the method, the base, a setting that is not taken here."""
    backend = tuneport.open_backend(asked.base.backend)
    if METHODS[asked.method] not in backend.capabilities.methods:
        raise UnsupportedError(f"This server's backend {backend.name!r} cannot train by {asked.method!r}.")
    rows = _one_row(asked.method)
    tuneport.plan(
        asked.base,
        rows,
        method=METHODS[asked.method],
        epochs=asked.n_epochs,
        seed=asked.seed,
        settings=settings_for(asked, rows),
    )


def _one_row(method: str) -> Dataset:
    question, answer = (Message(role="user", content="Hello"),), (Message(role="assistant", content="Hello!"),)
    if method == "dpo":
        worse = (Message(role="assistant", content="What?"),)
        return Dataset.from_examples([Preference(prompt=question, chosen=answer, rejected=worse)])
    return Dataset.from_examples([Conversation(messages=question + answer)])
