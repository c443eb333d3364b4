"""Nebius' custom models: a checkpoint answers there once it is registered. Registering costs nothing by itself."""

from __future__ import annotations

import time
from typing import Any

from tuneport.errors import BackendError, NotFoundError, UnavailableError
from tuneport_openai.wire.client import Wire
from tuneport_openai.wire.refusals import line_of


class Registry:
    """The custom models of an account: `/v0/models`, next to the wire's `/v1`, with the same key."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._url = f"{wire.profile.base_url.removesuffix('/v1')}/v0/models"

    def register(self, name: str, base: str, checkpoint: str) -> str:
        """Register a checkpoint of a model tuned from `base`; returns the name under which it will answer."""
        body = {"name": name, "base_model": base, "source": checkpoint}
        with self._wire.translate_errors("registering the model"):
            return _name_of(self._wire.once.post(self._url, body=body, cast_to=object))

    def wait(self, name: str) -> None:
        """Wait until a model answers. Raises BackendError where it never will, UnavailableError where it takes long."""
        limits = self._wire.limits
        deadline = time.monotonic() + limits.deploy_seconds
        while True:
            with self._wire.translate_errors("waiting for the model"):
                found: Any = self._wire.patient.get(f"{self._url}/{name}", cast_to=object)
            status = found.get("status") if isinstance(found, dict) else None
            if status == "active":
                return
            if status in ("error", "deleted"):
                reason = line_of(found.get("status_reason") or "no reason given")
                raise BackendError(
                    f"{self._wire.profile.name} cannot serve {name}: {reason}",
                    remedy="Not every base is served. Export the weights instead, or deploy them on the server's page.",
                )
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"{self._wire.profile.name} has not finished validating {name} after "
                    f"{limits.deploy_seconds / 60:.0f} minutes.",
                    remedy="Ask the model again later.",
                    passing=True,
                )
            time.sleep(self._wire.profile.poll_seconds)

    def remove(self, name: str) -> bool:
        """Remove a registered model; returns whether it was there."""
        try:
            with self._wire.translate_errors("removing the model"):
                self._wire.patient.delete(f"{self._url}/{name}", cast_to=object)
        except NotFoundError:
            return False
        return True


def _name_of(answer: Any) -> str:
    name = answer.get("name") if isinstance(answer, dict) else None
    if not isinstance(name, str) or not name:
        raise ValueError("the answer names no model")
    return name
