"""How long to wait for an endpoint, and how much to send it at once; a slow or small server needs other numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from tuneport.errors import UsageError
from tuneport.plugin import did_you_mean


def _limit(default: float | None, description: str) -> Any:
    return field(default=default, metadata={"description": description})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one endpoint. Times are in seconds, sizes in bytes."""

    poll_seconds: float | None = _limit(
        None, "between two requests for a job's state; 5, or 0.5 for a server on this machine, when absent"
    )
    outage_seconds: float = _limit(1800.0, "that a wait tolerates a server that does not answer")
    read_seconds: float = _limit(60.0, "without progress, of a request that reads")
    create_seconds: float = _limit(120.0, "without progress, of a request that starts or sends something")
    answer_seconds: float = _limit(600.0, "without progress, of a model's answer")
    search_seconds: float = _limit(15.5, "of looking for a job whose creation was not confirmed")
    retry_seconds: float = _limit(1.0, "before a failed upload or question is repeated; longer each time")
    process_seconds: float = _limit(1800.0, "that a server may process an uploaded file")
    notice_seconds: float = _limit(6.0, "of waiting for a file before a log line says so")
    deploy_seconds: float = _limit(1800.0, "that Azure may take to deploy a model")
    retries: float = _limit(2, "of a request that reads")
    answer_retries: float = _limit(4, "of a question that the server fails to answer")
    upload_retries: float = _limit(3, "of an upload")
    request_bytes: float = _limit(100_000_000, "of the largest file that is sent in one request")
    part_bytes: float = _limit(64 * 2**20, "of one part of a larger file")

    @property
    def looks(self) -> tuple[float, ...]:
        """The pauses before each search for a job that may have been started: lists may lag behind."""
        shares = [2**number for number in range(5)]
        return (0.0, *(self.search_seconds * share / sum(shares) for share in shares))

    def change(self, texts: Iterable[str]) -> Limits:
        """The limits with `name=number` texts applied; raises UsageError for another name or no number."""
        known = [one.name for one in fields(self)]
        values: dict[str, float] = {}
        for text in texts:
            name, _, number = text.partition("=")
            if name not in known:
                raise UsageError(
                    f"{name!r} is not a limit.",
                    remedy=f"{did_you_mean(name, known)}Write NAME=NUMBER. The names are {', '.join(sorted(known))}.",
                )
            values[name] = _number(name, number)
        return replace(self, **values)

    def overrides(self) -> dict[str, float]:
        """Those that differ from the defaults."""
        usual = asdict(Limits())
        return {name: value for name, value in asdict(self).items() if value != usual[name]}


def read_limits(stored: Mapping[str, Any]) -> Limits:
    """The limits that `Limits.overrides` returned. Raises ValueError or TypeError."""
    return Limits(**{name: _number(name, str(value)) for name, value in stored.items()})


def _number(name: str, text: str) -> float:
    is_whole = not name.endswith("_seconds")
    try:
        found = int(text) if is_whole else float(text)
    except ValueError:
        found = math.nan
    least = 1 if name.endswith("_bytes") else 0
    if not least <= found <= 2**53:
        kind = "a whole number" if is_whole else "a number"
        raise UsageError(
            f"{text!r} is not a value for {name}.", remedy=f"Write {kind} from {least} up, such as {name}=8."
        )
    return found
