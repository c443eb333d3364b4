"""The training, validation and holdout rows of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneport.doors import public

if TYPE_CHECKING:
    from tuneport.dataset import Dataset


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The rows of a run: those to train on, those that guide training, and those held out for the comparison."""

    train: Dataset
    validation: Dataset | None
    holdout: Dataset | None

    def counts(self) -> dict[str, int]:
        """The number of rows in each part."""
        return {
            "train": len(self.train),
            "validation": len(self.validation) if self.validation is not None else 0,
            "holdout": len(self.holdout) if self.holdout is not None else 0,
        }
