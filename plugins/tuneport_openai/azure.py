"""Azure's deployments: a tuned model answers only while it is deployed, which is billed by the hour."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from tuneport import Hosting
from tuneport.errors import BackendError, ConfigError, NotFoundError, TuneportError, UnavailableError
from tuneport.plugin import Redactor
from tuneport_openai.catalog import table
from tuneport_openai.wire import keys
from tuneport_openai.wire.addresses import check_url
from tuneport_openai.wire.client import http_client, is_http
from tuneport_openai.wire.profiles import Profile
from tuneport_openai.wire.refusals import line_of, message_in

RESOURCE, TOKEN, MANAGEMENT = "AZURE_OPENAI_RESOURCE_ID", keys.MANAGEMENT_TOKEN, "AZURE_MANAGEMENT_URL"
_API = "2024-10-01"
_PUBLIC = "https://management.azure.com"
_SKU = {"name": "Standard", "capacity": 50}  # thousands of tokens a minute; the hour is billed, not these
_RESOURCE_ID = re.compile(
    r"/subscriptions/[\w-]+/resourceGroups/[\w.()-]+/providers/Microsoft\.CognitiveServices/accounts/[\w-]+\Z",
    re.IGNORECASE,
)
_NEW_TOKEN = f"Run: export {TOKEN}=$(az account get-access-token --query accessToken -o tsv)"
_FAILED = frozenset({"failed", "canceled", "cancelled", "disabled"})
_STATES: Mapping[str, Any] = {
    "succeeded": "ready",
    "creating": "starting",
    "accepted": "starting",
    "moving": "starting",
    "deleting": "stopping",
    **dict.fromkeys(_FAILED, "failed"),
}
_TUNED = re.compile(r"(^|\.)ft[-:]")  # gpt-4o-mini-2024-07-18.ft-0ab3…
_MOST_PAGES = 50


class Resource:
    """The Azure resource that AZURE_OPENAI_RESOURCE_ID names, through Resource Manager.

    Resource Manager is another host than the API's and takes another token, AZURE_MANAGEMENT_TOKEN, which is sent only
    there. Raises ConfigError where either is not set.
    """

    def __init__(self, profile: Profile) -> None:
        self._limits = profile.limits
        resource = os.environ.get(RESOURCE, "").rstrip("/")
        if not _RESOURCE_ID.match(resource):
            raise ConfigError(
                f"A deployment needs an Azure resource, and the variable {RESOURCE} does not name one.",
                remedy="Set it to /subscriptions/…/resourceGroups/…/providers/Microsoft.CognitiveServices/accounts/… "
                "(see `az cognitiveservices account show`), or deploy the model in the portal and ask "
                "azure:DEPLOYMENT.",
            )
        self._host = check_url(os.environ.get(MANAGEMENT) or _PUBLIC)
        self._path = f"{resource}/deployments"

    def send(self, method: str, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request about one deployment; raises NotFoundError where there is none of that name."""
        return self._send(method, f"{self._host}{self._path}/{name}?api-version={_API}", name, body)

    def list(self) -> Iterator[dict[str, Any]]:
        """Every deployment of the resource, as Resource Manager describes it. Raises BackendError where the list is not
        complete: what is missing may cost money.
        """
        url: object = f"{self._host}{self._path}?api-version={_API}"
        for _ in range(_MOST_PAGES):
            if not isinstance(url, str) or not url.startswith(f"{self._host}/"):
                break
            page = self._send("GET", url, "the deployments")
            found = page.get("value")
            if not isinstance(found, list):
                break
            yield from (one for one in found if isinstance(one, dict) and isinstance(one.get("name"), str))
            url = page.get("nextLink")
            if not url:
                return
        raise BackendError(
            "The list of deployments of Azure's Resource Manager could not be read completely.",
            remedy="Look at the deployments in the portal.",
        )

    def _send(self, method: str, url: str, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        token = os.environ.get(TOKEN, "")
        if not token:
            raise ConfigError(
                f"Deployments at Azure need the environment variable {TOKEN}, which is not set.",
                remedy=_NEW_TOKEN,
            )
        redact = Redactor(lambda: [token, os.environ.get("AZURE_OPENAI_API_KEY", "")])
        direct, seconds = urlsplit(url).scheme == "http", self._limits.read_seconds
        try:
            with http_client("Azure's Resource Manager", redact, seconds=seconds, direct=direct) as client:
                answer = client.request(method, url, headers={"Authorization": f"Bearer {token}"}, json=body)
        except Exception as error:  # its class is of httpx or httpx2, whichever the openai package uses
            if not is_http(error):
                raise
            why = redact(line_of(error))
            raise UnavailableError(
                f"Azure's Resource Manager could not be reached about {what}: {type(error).__name__}: {why}",
                remedy="Try again in a while.",
                passing=True,
            ) from (None if redact.is_in(str(error)) else error)
        if not answer.is_success:
            raise _refusal(answer.status_code, what, message_in(answer.text))
        return _object_of(answer)


class Deployment:
    """A deployment by name; `ref` is of the model that is deployed, where it was tuned from here."""

    def __init__(self, name: str, profile: Profile, ref: str = "") -> None:
        self.name = name
        self._ref = ref
        self._poll_seconds, self._limits = profile.poll_seconds, profile.limits
        self._resource = Resource(profile)

    def ensure(self, model: str) -> Hosting:
        """Deploy the model if it is not deployed, and wait until it answers. Raises BackendError if that fails."""
        found = self._read()
        if found is None:
            properties = {"model": {"format": "OpenAI", "name": model, "version": "1"}}
            self._resource.send("PUT", self.name, {"sku": _SKU, "properties": properties})
        deadline = time.monotonic() + self._limits.deploy_seconds
        while (state := _state_of(found := self._read())) != "succeeded":
            if state in _FAILED:
                raise BackendError(
                    f"Azure could not deploy {model} as {self.name}: it is {state}.",
                    remedy="The portal says why. A deployment that failed costs nothing.",
                )
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"Azure is still deploying {self.name} after {self._limits.deploy_seconds / 60:.0f} minutes.",
                    remedy="It is billed once it is deployed. Try again later, or delete it in the portal.",
                )
            time.sleep(self._poll_seconds)
        return describe({"name": self.name, **(found or {})}, self._ref)

    def hosting(self) -> Hosting | None:
        """What it costs, and its state; None when there is no such deployment."""
        found = self._read()
        return None if found is None else describe({"name": self.name, **found}, self._ref)

    def remove(self) -> bool:
        """Delete it, which ends its cost; returns whether it was there."""
        if self._read() is None:
            return False
        self._resource.send("DELETE", self.name)
        return True

    def _read(self) -> dict[str, Any] | None:
        try:
            return self._resource.send("GET", self.name)
        except NotFoundError:
            return None


def describe(found: dict[str, Any], ref: str = "") -> Hosting:
    """A deployment as Resource Manager describes it. `ref` is of the model, where it was tuned from here."""
    state = _state_of(found)
    model = _part(_part(found, "properties"), "model").get("name")
    known = _STATES.get(state or "", "unknown")
    cure = f"Run: tuneport hosting stop {ref}" if ref else "Delete it in the portal."
    return Hosting(
        name=str(found["name"]),
        model=model if isinstance(model, str) else "",
        ref=ref,
        state=known,
        is_billed=known in ("ready", "stopping", "unknown"),
        usd_per_hour=table.price_of_hosting(),
        created=_time_of(_part(found, "systemData").get("createdAt")),
        remedy=cure,
    )


def is_tuned(found: dict[str, Any]) -> bool:
    """Whether the deployed model is a tuned one: a deployment of another is not billed by the hour."""
    model = _part(_part(found, "properties"), "model").get("name")
    return isinstance(model, str) and bool(_TUNED.search(model))


def _state_of(found: dict[str, Any] | None) -> str | None:
    """The state in lower case; None when there is no such deployment."""
    if found is None:
        return None
    state = _part(found, "properties").get("provisioningState")
    return line_of(state).lower() if isinstance(state, str) and state else "unknown"


def _part(found: dict[str, Any], name: str) -> dict[str, Any]:
    part = found.get(name)
    return part if isinstance(part, dict) else {}


def _time_of(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found.astimezone(UTC) if found is not None and found.tzinfo is not None else None


def _refusal(status: int, what: str, message: str) -> TuneportError:
    why = f"({status}): {message}"
    if status == 404:
        return NotFoundError(f"Azure has no deployment {what} {why}", remedy=f"Check {RESOURCE}.")
    if status in (401, 403):
        return UnavailableError(
            f"Azure's Resource Manager refuses the token in {TOKEN} {why}", remedy=f"It lasts an hour. {_NEW_TOKEN}"
        )
    return UnavailableError(f"Azure's Resource Manager failed on {what} {why}", remedy="Try again.", passing=True)


def _object_of(answer: Any) -> dict[str, Any]:
    """The JSON object of an answer; empty for a deletion's empty answer or a gateway's page."""
    try:
        found = answer.json()
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
