"""What is known of vendors' models, from a dated table in the package: limits, tokenizers and prices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from tuneport_openai.profiles import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A model of the table. Limits are in tokens, prices in US dollars per million tokens; None is unknown."""

    model: str
    methods: tuple[str, ...]
    max_tokens: int | None
    encoding: str
    images: bool
    training: float | None
    tuned_input: float | None
    tuned_output: float | None


def known(profile: Profile, model: str) -> Known | None:
    """What the table says of a vendor's model, by its snapshot's name, its bare name or a tuned model's (`ft:…`)."""
    if profile.vendor == "other":
        return None
    base = model.removeprefix("ft:").partition(":")[0]
    for one in models():
        if base == one.model or one.model.rpartition("-20")[0] == base:
            return one
    return None


def models() -> tuple[Known, ...]:
    """All models of the table."""
    return tuple(Known(**{**one, "methods": tuple(one["methods"])}) for one in _table()["models"])


def as_of() -> str:
    """The day of the table."""
    return str(_table()["as_of"])


def usd_per_training_hour(method: str) -> float | None:
    """What an hour of training costs, where a method is billed by time."""
    found = _table()["usd_per_training_hour"].get(method)
    return float(found) if found is not None else None


def longest_suffix(profile: Profile) -> int:
    """How many characters the vendor takes as a suffix."""
    return int(_table()["vendors"].get(profile.vendor, {"suffix": 64})["suffix"])


@cache
def _table() -> Any:
    return json.loads(files("tuneport_openai").joinpath("models.json").read_text("utf-8"))
