"""Open base models that a moved job could train on. The user chooses; these are proposals with their facts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import tuneport
from tuneport.errors import TuneportError
from tuneport.plugin import Dataset, Plan

if TYPE_CHECKING:
    from collections.abc import Mapping

_BACKEND = "torch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A base model: its size as text, its license, the bytes of its weights in 16 bits, and its plan, where its backend
    can make one.
    """

    model: str
    size: str
    license: str | None
    weights: float | None
    plan: Plan | None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "model": self.model,
            "size": self.size,
            "license": self.license,
            "weights": self.weights,
            "memory": self.plan.memory.value if self.plan is not None else None,
            "seconds": self.plan.seconds.value if self.plan is not None else None,
            "about": str(self),
        }

    def __str__(self) -> str:
        facts = [self.size]
        if self.license:
            facts.append(self.license)
        if self.weights is not None:
            facts.append(f"{self.weights / 1e9:,.1f} GB of weights")
        if self.plan is None or self.plan.memory.value is None:
            facts.append("time and memory are unknown until it is downloaded")
        else:
            facts += [f"{self.plan.memory} of memory", f"{self.plan.seconds} here"]
        return f"{self.model} ({', '.join(facts)})"


def proposals(rows: Dataset | None, method: str) -> list[Proposal]:
    """The base models on this machine, then one of each size. Downloads nothing and starts nothing."""
    found = [
        Proposal(
            model=str(one.ref),
            size="on this machine",
            license=None,
            weights=None,
            plan=_plan(str(one.ref), rows, method),
        )
        for one in tuneport.models()
        if one.kind == "base" and one.present and one.ref.backend == _BACKEND
    ]
    known = {one.model for one in found}
    for raw in _table()["models"]:
        model = f"{_BACKEND}:{raw['name']}"
        if model not in known:
            found.append(
                Proposal(
                    model=model,
                    size=f"{raw['size']}, {raw['parameters'] / 1e9:g} billion parameters",
                    license=raw["license"],
                    weights=raw["parameters"] * 2,
                    plan=_plan(model, rows, method),
                )
            )
    return found


def as_of() -> str:
    """The date of the table."""
    return str(_table()["as_of"])


def _plan(model: str, rows: Dataset | None, method: str) -> Plan | None:
    """The backend's plan for training on the rows; None where it cannot make one."""
    if rows is None or method not in ("supervised", "dpo"):
        return None
    try:
        return tuneport.plan(model, rows, method="dpo" if method == "dpo" else "sft")
    except TuneportError:
        return None


@cache
def _table() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(
        files("tuneport_openai.move").joinpath("bases.json").read_text(encoding="utf-8")
    )
    return found
