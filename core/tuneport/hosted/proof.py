"""How a service can show whether a start was carried out: one strategy for each kind of service.

A creating request that ends in doubt may have started a paid job. A strategy says what a service lets us leave in the
request, and what to do on doubt: send the same request again, because it can have no second effect, or look for a job
that carries the mark.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from tuneport.doors import HOSTED, public
from tuneport.hosted.refusals import InDoubt, Refused, RefusedName, Unsent

if TYPE_CHECKING:
    from tuneport.hosted.http import Http
    from tuneport.hosted.reports import Report, Start


class Calls(Protocol):
    """The calls of a service that a proof makes; see `Service`."""

    @property
    def title(self) -> str: ...
    def create(self, http: Http, start: Start) -> Report: ...
    def look(self, http: Http, job_id: str) -> Report: ...
    def find(self, http: Http, start: Start) -> Iterable[Report]: ...
    def job_id(self, start: Start) -> str: ...
    def is_duplicate(self, error: Refused) -> bool: ...


@public(HOSTED)
class Proof(ABC):
    """A strategy. `mark` makes the text that a job is recognized by, from the intent, a UUID."""

    is_replayable: ClassVar[bool] = False
    """Whether the creating request may be sent again: it has no second effect."""

    def mark(self, intent: str) -> str:
        """The text to leave in the request."""
        return intent

    def create(self, service: Calls, http: Http, start: Start) -> Report:
        """Send the creating request once. Raises Refused, Unsent or InDoubt."""
        report = service.create(http, start)
        if not report.id:
            raise InDoubt(f"{service.title} named no job in its answer.", remedy="Try again.", passing=True)
        return report

    @abstractmethod
    def resolve(self, service: Calls, http: Http, start: Start) -> Report | None:
        """The job of a start that is in doubt, or None where the service shows none now. Raises what keeps it from
        being asked.
        """


@public(HOSTED)
@dataclass(frozen=True)
class ClientId(Proof):
    """The client chooses the job's id, so a repeated request meets the job that is there (Fireworks).

    `Service.create` sends `start.mark` as the id; `Service.job_id` gives the id by which `Service.look` finds it.
    """

    prefix: str = "tp-"
    is_replayable = True

    def mark(self, intent: str) -> str:
        """`tp-` and the 32 hexadecimal digits of the intent: 35 characters of a-z, 0-9 and -."""
        return f"{self.prefix}{uuid.UUID(intent).hex}"

    def create(self, service: Calls, http: Http, start: Start) -> Report:
        """Send it; where the service says that the id is taken, the job is ours."""
        try:
            return super().create(service, http, start)
        except Refused as error:
            if not service.is_duplicate(error):
                raise
            try:
                return service.look(http, service.job_id(start))
            except RefusedName:  # something else has that name
                raise error from None

    def resolve(self, service: Calls, http: Http, start: Start) -> Report | None:
        """Send it again: at most one job can have the id. A repetition that is refused proves nothing about the first
        request, so the job is looked for by its id then.
        """
        return _replay(self, service, http, start, lambda: service.look(http, service.job_id(start)))


@public(HOSTED)
@dataclass(frozen=True)
class Token(Proof):
    """The service takes an idempotency token and answers a repetition with the same job (Bedrock).

    `Service.create` sends `start.mark` as the token.
    """

    is_replayable = True

    def resolve(self, service: Calls, http: Http, start: Start) -> Report | None:
        """Send it again, with the same token. Where the repetition is refused, `Service.find` looks for the token."""
        return _replay(self, service, http, start, lambda: _find(service, http, start, lambda report: report.mark))


@public(HOSTED)
@dataclass(frozen=True)
class Label(Proof):
    """The service keeps a label or metadata with each job and lists it (OpenAI, Vertex, Hugging Face Jobs).

    `Service.create` sends `start.mark` as the label; `Service.find` lists the jobs that carry it, or all jobs with
    their labels as `Report.mark`.
    """

    def resolve(self, service: Calls, http: Http, start: Start) -> Report | None:
        """Look for the label."""
        return _find(service, http, start, lambda report: report.mark)


@public(HOSTED)
@dataclass(frozen=True)
class Scan(Proof):
    """The service keeps nothing but a name or a suffix (Together, Nebius): the mark is a short part of it.

    `Service.create` puts `start.mark` into the name; `Service.find` lists all jobs, with the name as `Report.mark`.
    """

    digits: int = 12

    def mark(self, intent: str) -> str:
        """The first hexadecimal digits of the intent."""
        return uuid.UUID(intent).hex[: self.digits]

    def resolve(self, service: Calls, http: Http, start: Start) -> Report | None:
        """Look for the mark in every name."""
        return _find(service, http, start, lambda report: start.mark if start.mark in report.mark else "")


def _replay(proof: Proof, service: Calls, http: Http, start: Start, look: Callable[[], Report | None]) -> Report | None:
    try:
        return proof.create(service, http, start)
    except (InDoubt, Unsent):
        raise
    except Refused as error:
        if error.passing:
            raise
        try:
            return look()
        except RefusedName:
            return None


def _find(service: Calls, http: Http, start: Start, mark_of: Callable[[Report], str]) -> Report | None:
    """The oldest job with the mark; several could only come from a service that repeats requests by itself."""
    found = [report for report in service.find(http, start) if mark_of(report) == start.mark]
    return min(found, key=lambda one: (one.created is None, one.created), default=None)
