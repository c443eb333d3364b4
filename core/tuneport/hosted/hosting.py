"""What an author writes about deployments, for a service whose tuned models answer only while they are deployed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tuneport.doors import HOSTED, public

if TYPE_CHECKING:
    from tuneport.contract.hosting import Hosting
    from tuneport.hosted.http import Http
    from tuneport.hosted.reports import Start


@public(HOSTED)
class Deployments(ABC):
    """The deployments of a service. Each call may use the network and block, as those of `Service`."""

    @abstractmethod
    def name_for(self, model: str, mark: str) -> str:
        """The name of the deployment of a tuned model, which follows from its job's mark. Uses no network."""

    def address_for(self, model: str, name: str) -> str:
        """The name under which a deployed model is asked: the deployment's, unless overridden. Uses no network."""
        del model
        return name

    @abstractmethod
    def create(self, http: Http, start: Start, model: str, name: str) -> None:
        """Create the deployment. Called again after a failure: one that is there already is fine."""

    @abstractmethod
    def read(self, http: Http, name: str, ref: str) -> Hosting | None:
        """The deployment of that name, or None where there is none. `ref` is its model's."""

    @abstractmethod
    def remove(self, http: Http, name: str) -> bool:
        """Take the deployment down, and return whether it was there."""

    @abstractmethod
    def list(self, http: Http) -> Iterable[Hosting]:
        """Every deployment of the account, also those that others made."""
