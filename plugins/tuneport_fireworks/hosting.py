"""Deployments at Fireworks: a GPU is billed for each second in which a replica runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from tuneport.errors import ConfigError
from tuneport.hosted import Deployments, Hosting, Http, Refused, Start, parse_time
from tuneport.plugin import Quantity
from tuneport_fireworks.rules import prices

ACCOUNT = "FIREWORKS_ACCOUNT_ID"
_STATES: Mapping[str, Any] = {
    "CREATING": "starting",
    "READY": "ready",
    "UPDATING": "ready",
    "FAILED": "failed",
    "DELETING": "stopping",
}


class FireworksDeployments(Deployments):
    """One replica at most, and none while nobody asks."""

    def name_for(self, model: str, mark: str) -> str:
        """A deployment of the model's own account."""
        return f"{'/'.join(model.split('/')[:2])}/deployments/{mark}"

    def address_for(self, model: str, name: str) -> str:
        """A deployed model is asked by both names."""
        return f"{model}#{name}"

    def create(self, http: Http, start: Start, model: str, name: str) -> None:
        """With the shape that Fireworks chooses: without a shape most creations fail."""
        parent, _, deployment = name.rpartition("/")
        body = {
            "baseModel": model,
            "displayName": start.ref[:60],
            "deploymentShape": "default",
            "minReplicaCount": 0,
            "maxReplicaCount": 1,
            "autoscalingPolicy": {"scaleToZeroWindow": f"{start.body['idleSeconds']}s"},
        }
        try:
            http.once("POST", f"/v1/{parent}", body, query={"deploymentId": deployment})
        except Refused as error:
            if error.status != 409:
                raise

    def read(self, http: Http, name: str, ref: str) -> Hosting | None:
        """The deployment as Fireworks shows it."""
        found = http.find(f"/v1/{name}")
        return None if found is None else describe(found, ref)

    def remove(self, http: Http, name: str) -> bool:
        """Also while it is being asked."""
        return http.delete(f"/v1/{name}", ignoreChecks="true")

    def list(self, http: Http) -> Iterator[Hosting]:
        """Every deployment of the account; the display name is the ref of one that was made here."""
        for one in http.pages(f"/v1/accounts/{read_account(http)}/deployments", "deployments", pageSize=200):
            shown = str(one.get("displayName") or "")
            if found := describe(one, shown if shown.startswith(f"{http.endpoint.name}:") else ""):
                yield found


def read_account(http: Http) -> str:
    """The account's id: the variable's, else the only one that the key belongs to."""
    if named := os.environ.get(ACCOUNT, "").removeprefix("accounts/"):
        return named
    found = [str(one["name"]) for one in http.again("GET", "/v1/accounts")["accounts"]]
    if len(found) != 1:
        raise ConfigError(
            f"The key belongs to {len(found)} accounts.",
            remedy=f"Run: export {ACCOUNT}=… with one of {', '.join(found)}",
        )
    return found[0].removeprefix("accounts/")


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
        return Quantity(
            value=None, unit="USD", source=f"the price of {kind} is not in the table of {prices()['as_of']}"
        )
    return Quantity(value=each * count, unit="USD", source=f"{count} {kind} by the table of {prices()['as_of']}")
