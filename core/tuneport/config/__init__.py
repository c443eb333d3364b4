"""What a run is asked to be: read from a file or from flags, checked whole, saved as it was asked."""

from __future__ import annotations

from tuneport.config.models import (
    BudgetConfig,
    CompareConfig,
    DataConfig,
    RunConfig,
    Secret,
    Settings,
    TrainConfig,
)
from tuneport.config.source import Source

__all__ = [
    "BudgetConfig",
    "CompareConfig",
    "DataConfig",
    "RunConfig",
    "Secret",
    "Settings",
    "Source",
    "TrainConfig",
]
