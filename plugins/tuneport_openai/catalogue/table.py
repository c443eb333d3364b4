"""What is known of vendors' models, from a dated table in the package: limits, tokenizers, prices and ends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from tuneport_openai.wire.profiles import Profile
from tuneport_openai.wire.vendors import day


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A model at a vendor. Limits are in tokens, prices in US dollars per million tokens; None is unknown.

    `ends` is the day on which the vendor shuts it down, and every model tuned from it.
    """

    model: str
    encoding: str
    methods: tuple[str, ...]
    max_tokens: int | None
    images: bool | None
    ends: date | None = None
    training: float | None = None
    tuned_input: float | None = None
    tuned_output: float | None = None

    def has_ended(self, today: date | None = None) -> bool:
        """Whether the vendor has shut it down."""
        return self.ends is not None and (today or datetime.now(UTC).date()) >= self.ends


def known(profile: Profile, model: str) -> Known | None:
    """What the table says of a vendor's model, by its snapshot's name, its bare name or a tuned model's (`ft:…`)."""
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
    """All models that the table knows at that vendor."""
    return tuple(
        _known(one["model"], one["encoding"], one[profile.vendor])
        for one in _table()["models"]
        if profile.vendor in one
    )


def as_of() -> str:
    """The day of the table."""
    return str(_table()["as_of"])


def usd_per_training_hour(method: str) -> float | None:
    """What an hour of training costs, where a method is billed by time."""
    found = _table()["usd_per_training_hour"].get(method)
    return float(found) if found is not None else None


def cost_of_hosting() -> str:
    """What a deployed model costs at Azure, and when that was said."""
    facts = _table()["vendors"]["azure"]["hosting"]
    return f"${facts['usd_per_hour']:.2f} an hour as of {facts['as_of']}"


def longest_suffix(profile: Profile) -> int:
    """How many characters the vendor takes as a suffix."""
    return int(_table()["vendors"].get(profile.vendor, {"suffix": 64})["suffix"])


def most_images(profile: Profile) -> int | None:
    """How many images the vendor takes in a row; None is unknown."""
    found = _table()["vendors"].get(profile.vendor)
    return int(found["images"]) if found else None


def _known(model: str, encoding: str, facts: dict[str, Any]) -> Known:
    ends = facts.get("ends")
    parsed = {"methods": tuple(facts["methods"]), "ends": date.fromisoformat(ends) if ends else None}
    return Known(model=model, encoding=encoding, **{**facts, **parsed})


@cache
def _table() -> Any:
    return json.loads(files("tuneport_openai.catalogue").joinpath("models.json").read_text("utf-8"))
