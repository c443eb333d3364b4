"""Deployments at Fireworks: a GPU is billed for each second in which a replica runs, and none runs while nobody asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneport.hosted import Hosting, parse_time
from tuneport.plugin import Quantity
from tuneport_fireworks.rules import prices

_STATES: Mapping[str, Any] = {
    "CREATING": "starting",
    "READY": "ready",
    "UPDATING": "ready",
    "FAILED": "failed",
    "DELETING": "stopping",
}


def describe(found: Mapping[str, Any], ref: str) -> Hosting | None:
    """A deployment as Fireworks shows it; None for one that was deleted. `ref` is the model's, where it is ours."""
    word, name = str(found.get("state") or ""), str(found["name"])
    if word == "DELETED":
        return None
    replicas = (found.get("replicaStats") or {}).get("readyReplicaCount") or 0
    state = _STATES.get(word, "unknown")
    window = str((found.get("autoscalingPolicy") or {}).get("scaleToZeroWindow") or "3600s")
    cure = f"tuneport hosting stop {ref}" if ref else f"firectl delete deployment {name.rpartition('/')[2]}"
    return Hosting(
        name=name,
        model=str(found.get("baseModel") or ""),
        ref=ref,
        state="asleep" if state == "ready" and not replicas else state,
        is_billed=bool(replicas) or state == "starting",
        usd_per_hour=_price(found),
        stops_after=float(window.removesuffix("s")) if not found.get("minReplicaCount") else None,
        created=parse_time(found.get("createTime")),
        message=str((found.get("status") or {}).get("message") or ""),
        remedy=f"Run: {cure}",
    )


def _price(found: Mapping[str, Any]) -> Quantity:
    kind, count = str(found.get("acceleratorType") or "its GPU"), found.get("acceleratorCount")
    each = prices()["gpu_hour"].get(kind)
    if each is None or not isinstance(count, int):
        return Quantity(value=None, unit="USD", source=f"the price of {kind} is not in the table of {prices()['as_of']}")
    return Quantity(value=each * count, unit="USD", source=f"{count} {kind} by the table of {prices()['as_of']}")
