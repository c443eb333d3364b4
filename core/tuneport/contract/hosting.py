"""A deployment of a model: what it costs while it is there, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tuneport.contract.plan import Quantity
from tuneport.doors import public

HostingState = Literal["starting", "ready", "asleep", "stopping", "failed", "unknown"]


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Hosting:
    """A deployment at a service, as the service reports it now.

    `name` is the service's own name, `model` what is deployed, `ref` the model's ref where it was deployed from here.
    `is_billed`: it costs money at this moment; one that is asleep does not. `usd_per_hour` is the price while it is
    billed. `stops_after` is after how many idle seconds it stops by itself (None: never), `remedy` how to take it down.
    `created` is UTC.
    """

    name: str
    model: str
    state: HostingState
    is_billed: bool
    usd_per_hour: Quantity
    remedy: str
    ref: str = ""
    stops_after: float | None = None
    created: datetime | None = None
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        from dataclasses import asdict

        plain = asdict(self)
        return plain | {"created": self.created.isoformat() if self.created else None}

    def describe_cost(self) -> str:
        """What it costs, as a sentence without a period."""
        from tuneport.units import duration

        price = self.usd_per_hour
        cost = (
            f"${price.value:,.2f} an hour ({price.source})"
            if price.value is not None
            else f"a price that is not known ({price.source})"
        )
        ends = (
            f"it stops by itself after {duration(self.stops_after)} without questions"
            if self.stops_after
            else "it does not stop by itself"
        )
        return f"{cost} while it runs; {ends}"
