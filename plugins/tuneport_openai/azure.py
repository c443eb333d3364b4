"""Azure's deployments: a tuned model answers only while it is deployed, which is billed by the hour."""

from __future__ import annotations

import os
import re
import time
from typing import Any
from urllib.parse import urlsplit

from tuneport.errors import BackendError, ConfigError, NotFoundError, TuneportError, UnavailableError
from tuneport.plugin import Redactor
from tuneport_openai.wire import keys
from tuneport_openai.wire.addresses import check_url
from tuneport_openai.wire.client import http_client, is_http
from tuneport_openai.wire.profiles import Profile
from tuneport_openai.wire.refusals import message_in, shown

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


class Deployment:
    """A deployment by name, in the resource that AZURE_OPENAI_RESOURCE_ID names.

    Resource Manager is another host than the wire's and takes another token, AZURE_MANAGEMENT_TOKEN, which is sent only
    there. Raises ConfigError where either is not set.
    """

    def __init__(self, name: str, profile: Profile) -> None:
        self.name = name
        self._poll_seconds, self._limits = profile.poll_seconds, profile.limits
        resource = os.environ.get(RESOURCE, "").rstrip("/")
        if not _RESOURCE_ID.match(resource):
            raise ConfigError(
                f"A deployment needs an Azure resource, and the variable {RESOURCE} does not name one.",
                remedy="Set it to /subscriptions/…/resourceGroups/…/providers/Microsoft.CognitiveServices/accounts/… "
                "(see `az cognitiveservices account show`), or deploy the model in the portal and ask "
                "azure:DEPLOYMENT.",
            )
        host = check_url(os.environ.get(MANAGEMENT) or _PUBLIC)
        self._url = f"{host}{resource}/deployments/{name}?api-version={_API}"

    def ensure(self, model: str) -> bool:
        """Deploy the model and wait until it answers; returns whether it was created. Raises BackendError."""
        state = self._state()
        created = state is None
        if created:
            properties = {"model": {"format": "OpenAI", "name": model, "version": "1"}}
            self._ask("PUT", {"sku": _SKU, "properties": properties})
        deadline = time.monotonic() + self._limits.deploy_seconds
        while (state := self._state()) != "succeeded":
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
        return created

    def remove(self) -> bool:
        """Delete it, which ends its cost; returns whether it was there."""
        if self._state() is None:
            return False
        self._ask("DELETE")
        return True

    def _state(self) -> str | None:
        """Its state in lower case; None when there is no such deployment."""
        try:
            found = self._ask("GET")
        except NotFoundError:
            return None
        properties = found.get("properties")
        state = properties.get("provisioningState") if isinstance(properties, dict) else None
        return shown(state).lower() if isinstance(state, str) and state else "unknown"

    def _ask(self, method: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        token = os.environ.get(TOKEN, "")
        if not token:
            raise ConfigError(
                f"Deployments at Azure need the environment variable {TOKEN}, which is not set.",
                remedy=_NEW_TOKEN,
            )
        redact = Redactor(lambda: [token, os.environ.get("AZURE_OPENAI_API_KEY", "")])
        direct, seconds = urlsplit(self._url).scheme == "http", self._limits.read_seconds
        try:
            with http_client("Azure's Resource Manager", redact, seconds=seconds, direct=direct) as client:
                answer = client.request(method, self._url, headers={"Authorization": f"Bearer {token}"}, json=body)
        except Exception as error:  # its class is of httpx or httpx2, whichever the openai package uses
            if not is_http(error):
                raise
            why = redact(shown(error))
            raise UnavailableError(
                f"Azure's Resource Manager could not be reached about {self.name}: {type(error).__name__}: {why}",
                remedy="Try again in a while.",
                passing=True,
            ) from (None if redact.is_in(str(error)) else error)
        if not answer.is_success:
            raise self._refused(answer.status_code, message_in(answer.text))
        return _object_of(answer)

    def _refused(self, status: int, said: str) -> TuneportError:
        why = f"({status}): {said}"
        if status == 404:
            return NotFoundError(f"Azure has no deployment {self.name} {why}", remedy=f"Check {RESOURCE}.")
        if status in (401, 403):
            return UnavailableError(
                f"Azure's Resource Manager refuses the token in {TOKEN} {why}", remedy=f"It lasts an hour. {_NEW_TOKEN}"
            )
        return UnavailableError(
            f"Azure's Resource Manager failed on {self.name} {why}", remedy="Try again.", passing=True
        )


def _object_of(answer: Any) -> dict[str, Any]:
    """The JSON object of an answer; empty for a deletion's empty answer or a gateway's page."""
    try:
        found = answer.json()
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
