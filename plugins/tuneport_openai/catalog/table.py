"""What is known of vendors' models, from a dated table in the package: limits, tokenizers, prices, end dates."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from tuneport.plugin import Quantity
from tuneport_openai.wire.closing import day
from tuneport_openai.wire.profiles import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A model at a vendor. Limits are in tokens, prices in US dollars per million tokens; None is unknown.

    `encoding` is its tokenizer's name in tiktoken. `priced` is the date of the prices, where it is not the table's.
    `ends` is the day on which the vendor shuts it down, and every model tuned from it.
    """

    model: str
    encoding: str | None
    methods: tuple[str, ...]
    max_tokens: int | None
    images: bool | None
    ends: date | None = None
    training: float | None = None
    tuned_input: float | None = None
    tuned_output: float | None = None
    priced: str = ""

    def has_ended(self, today: date | None = None) -> bool:
        """Whether the vendor has shut it down."""
        return self.ends is not None and (today or datetime.now(UTC).date()) >= self.ends


def find_model(profile: Profile, model: str) -> Known | None:
    """A vendor's model in the table, by its snapshot's name, its name without the date, or a tuned model's (`ft:…`)."""
    base = model.removeprefix("ft:").partition(":")[0]
    for one in models(profile):
        if base in (one.model, one.model.rpartition("-20")[0] or one.model):
            return one
    return None


def end_of(model: Known) -> str:
    """A sentence on the day on which the vendor shuts a model down; empty where none is known."""
    if model.ends is None:
        return ""
    verb = "was" if model.has_ended() else "will be"
    return f"{model.model}, and what is tuned from it, {verb} shut down on {day(model.ends)}."


def models(profile: Profile) -> tuple[Known, ...]:
    """All models of that vendor in the table."""
    return tuple(
        _parse_model(one["model"], one.get("encoding"), one[profile.vendor])
        for one in _table()["models"]
        if profile.vendor in one
    )


def as_of() -> str:
    """The day of the table."""
    return str(_table()["as_of"])


def usd_per_training_hour(profile: Profile, method: str) -> float | None:
    """The price of an hour of training in US dollars, where a vendor bills a method by time."""
    found = _table()["vendors"].get(profile.vendor, {}).get("usd_per_training_hour", {}).get(method)
    return float(found) if found is not None else None


def price_of_hosting() -> Quantity:
    """The price of an hour of a deployment at Azure, with the date of its source."""
    facts = _table()["vendors"]["azure"]["hosting"]
    return Quantity(value=facts["usd_per_hour"], unit="USD", source=f"as of {facts['as_of']}")


def _parse_model(model: str, encoding: str | None, facts: dict[str, Any]) -> Known:
    ends = facts.get("ends")
    parsed = {"methods": tuple(facts["methods"]), "ends": date.fromisoformat(ends) if ends else None}
    return Known(model=model, encoding=encoding, **{**facts, **parsed})


@cache
def _table() -> Any:
    return json.loads(files("tuneport_openai.catalog").joinpath("models.json").read_text("utf-8"))
