"""A job of an account, as the server describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from tuneport_openai.catalog import table
from tuneport_openai.hyperparameters import read_hyperparameters
from tuneport_openai.wire.words import count_of, time_of

if TYPE_CHECKING:
    from tuneport_openai.wire.profiles import Profile

METHODS = {"supervised": "sft", "dpo": "dpo", "reinforcement": "reinforcement"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OldFile:
    """A file of a job. `there`: whether the server still lists it; None where it shows no list of files."""

    id: str
    name: str | None = None
    bytes: int | None = None
    there: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OldCheckpoint:
    """A checkpoint that the server keeps. `metrics` are those of its step."""

    model: str
    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class OldJob:
    """A job of the account. `hyperparameters` are as the server reports them: numbers that it used, or `auto` before it
    chose.

    `usd` is the estimated cost of training: trained tokens at the price of today's table. `listed`: whether the tuned
    model is still on the server's list of models. `ends`: the day on which the vendor shuts it down. `None` is unknown,
    in any field. `checkpoints` is None where they were not requested or could not be read.
    """

    id: str
    status: str
    base: str
    method: str
    created: datetime | None = None
    finished: datetime | None = None
    suffix: str | None = None
    seed: int | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    trained_tokens: int | None = None
    usd: float | None = None
    model: str | None = None
    listed: bool | None = None
    ends: date | None = None
    training_file: OldFile | None = None
    validation_file: OldFile | None = None
    result_files: tuple[OldFile, ...] = ()
    checkpoints: tuple[OldCheckpoint, ...] | None = None
    error: str | None = None
    organization: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def files(self) -> list[OldFile]:
        """All its files."""
        return [one for one in (self.training_file, self.validation_file, *self.result_files) if one is not None]

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics of the last checkpoint."""
        return self.checkpoints[-1].metrics if self.checkpoints else {}

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, without the server's own object."""
        return {
            "id": self.id,
            "status": self.status,
            "base": self.base,
            "method": self.method,
            "created": self.created.isoformat() if self.created else None,
            "finished": self.finished.isoformat() if self.finished else None,
            "suffix": self.suffix,
            "seed": self.seed,
            "hyperparameters": dict(self.hyperparameters),
            "trained_tokens": self.trained_tokens,
            "usd": self.usd,
            "model": self.model,
            "listed": self.listed,
            "ends": self.ends.isoformat() if self.ends else None,
            "training_file": _file_facts(self.training_file),
            "validation_file": _file_facts(self.validation_file),
            "result_files": [_file_facts(one) for one in self.result_files],
            "checkpoints": None
            if self.checkpoints is None
            else [{"model": one.model, "step": one.step, "metrics": dict(one.metrics)} for one in self.checkpoints],
            "metrics": dict(self.metrics),
            "error": self.error,
            "organization": self.organization,
            "metadata": dict(self.metadata),
        }


def parse_job(profile: Profile, raw: Mapping[str, Any]) -> OldJob | None:
    """The job that a server describes; None for an object without an id."""
    job_id, base = raw.get("id"), text_of(raw.get("model")) or ""
    if not isinstance(job_id, str) or not job_id:
        return None
    method = raw.get("method")
    kind = (text_of(method.get("type")) if isinstance(method, Mapping) else None) or "supervised"
    known = table.find_model(profile, base) if base else None
    tokens = count_of(raw.get("trained_tokens"))
    price = known.training if known is not None else None
    error = raw.get("error")
    metadata = raw.get("metadata")
    result_files = raw.get("result_files")
    return OldJob(
        id=job_id,
        status=text_of(raw.get("status")) or "unknown",
        base=base,
        method=kind,
        created=time_of(raw.get("created_at")),
        finished=time_of(raw.get("finished_at")),
        suffix=text_of(raw.get("user_provided_suffix")) or text_of(raw.get("suffix")) or _suffix_of_model(raw),
        seed=count_of(raw.get("seed")),
        hyperparameters=_hyperparameters(raw, kind),
        trained_tokens=tokens,
        usd=round(tokens * price / 1e6, 2) if tokens is not None and price is not None else None,
        model=text_of(raw.get("fine_tuned_model")),
        ends=known.ends if known is not None else None,
        training_file=_file(raw.get("training_file")),
        validation_file=_file(raw.get("validation_file")),
        result_files=tuple(filter(None, map(_file, result_files if isinstance(result_files, list) else ()))),
        error=text_of(error.get("message")) if isinstance(error, Mapping) else text_of(error),
        organization=text_of(raw.get("organization_id")),
        metadata={str(key): str(one) for key, one in metadata.items()} if isinstance(metadata, Mapping) else {},
        raw=raw,
    )


def _suffix_of_model(raw: Mapping[str, Any]) -> str | None:
    """The suffix in the name of a tuned model, `ft:BASE:ORGANIZATION:SUFFIX:ID`: the job does not always have it."""
    parts = (text_of(raw.get("fine_tuned_model")) or "").split(":")
    return parts[3] or None if len(parts) == 5 and parts[0] == "ft" else None


def _hyperparameters(raw: Mapping[str, Any], kind: str) -> dict[str, Any]:
    found = read_hyperparameters(raw, kind)
    return {str(key): one for key, one in found.items() if isinstance(one, str | int | float)}


def _file(value: object) -> OldFile | None:
    name = text_of(value)
    return OldFile(id=name) if name else None


def read_file(raw: Mapping[str, Any], file_id: str | None = None) -> OldFile:
    """The file that a server describes."""
    gone = raw.get("status") == "deleted" or raw.get("deleted") is True
    return OldFile(
        id=file_id or str(raw.get("id") or ""),
        name=text_of(raw.get("filename")),
        bytes=count_of(raw.get("bytes")) or None,
        there=not gone,
    )


def _file_facts(one: OldFile | None) -> dict[str, Any] | None:
    return None if one is None else {"id": one.id, "name": one.name, "bytes": one.bytes, "there": one.there}


def text_of(value: object) -> str | None:
    """A text that is not empty; None for anything else."""
    return value if isinstance(value, str) and value else None
