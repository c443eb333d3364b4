"""What a backend can do, whether it can be used here, and which base models it knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tuneport.dataset import DataRules
from tuneport.doors import AUTHORS, public
from tuneport.refs import Ref

Method = Literal["sft", "dpo", "orpo", "reinforcement"]
METHODS: frozenset[str] = frozenset({"sft", "dpo", "orpo", "reinforcement"})
VERBS: frozenset[str] = frozenset({"cancel", "pause", "resume"})
RATES: frozenset[str] = frozenset({"absolute", "multiplier"})


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do. The core refuses everything else before anything starts.

    `methods`: the training methods. `verbs`: those of cancel, pause and resume that its jobs have. `learning_rate`:
    whether it takes an absolute rate, or a multiplier of the rate that it chooses. `rules`: the data it takes, images
    included. `auto_epochs`: the rule behind `epochs: auto`, in a sentence. `local`: it trains on this machine, so its
    own files prove whether a job exists. `validation`: it takes validation rows. `seed`: it takes a seed. `max_epochs`:
    the most epochs of one job, None without a limit. `export_kinds`: how a tuned model can be exported. `quotes`: plans
    do not know the price; `start` asks for it after the upload and refuses one over the request's budget.
    """

    methods: frozenset[str]
    verbs: frozenset[str] = frozenset({"cancel"})
    learning_rate: Literal["absolute", "multiplier"] = "absolute"
    rules: DataRules = field(default_factory=DataRules)
    auto_epochs: str = ""
    local: bool = False
    validation: bool = True
    seed: bool = True
    max_epochs: int | None = None
    export_kinds: tuple[str, ...] = ()
    quotes: bool = False


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether a backend can be used here and now; if not, why, and what to do.

    `details`: facts such as the device. `plans`: although not ready, it can plan a training; its plan notes what is
    missing. `closing`: what the vendor has announced about ending its service, in a sentence; the core adds which other
    backends could run the same config.
    """

    ready: bool
    reason: str = ""
    remedy: str | None = None
    plans: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)
    closing: str = ""


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class BaseInfo:
    """A base model that a backend knows by name. `present`: whether it is on this machine, None where that has no
    meaning.
    """

    ref: Ref
    description: str
    present: bool | None = None
