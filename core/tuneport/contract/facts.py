"""Facts about a model: where it comes from, how it scores, where it is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from tuneport.doors import AUTHORS, public


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Loss (mean negative log-likelihood, nats) and accuracy of the next token, over the `tokens` that carry weight."""

    loss: float
    token_accuracy: float
    tokens: int
    examples: int


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where a tuned model comes from. Refs are strings; `data_fingerprint` is of the rows that were trained on."""

    base: str
    job: str
    data_fingerprint: str
    created: str
    method: str = "sft"
    system: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    template_sha256: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """The lineage that `to_dict` wrote."""
        return cls(**raw)


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """How to push a model. `comparison` is the result of `Comparison.to_dict`, for the model card. A `dry_run` creates
    and uploads nothing; it checks whether the push could be made.
    """

    private: bool = False
    dtype: str | None = None
    comparison: Mapping[str, Any] | None = None
    dry_run: bool = False


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A model on a hub, or, with `commit` None, what would be published. `new`: the repository does not exist yet."""

    url: str
    kind: str
    private: bool
    new: bool
    account: str
    commit: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)
