"""The budget of a config, applied to a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneport.errors import BudgetError
from tuneport.loader import load

if TYPE_CHECKING:
    from tuneport.config import RunConfig
    from tuneport.contract.plan import Plan


def refuse_over_budget(plan: Plan, config: RunConfig) -> None:
    """Raise BudgetError if the plan exceeds a limit of the config, or if the cost that is limited is unknown."""
    hours = None if plan.seconds.value is None else plan.seconds.value / 3600
    limits = (
        ("usd", config.budget.usd, plan.usd.value, plan.usd.source, ("cost", "cost", "US dollars")),
        ("hours", config.budget.hours, hours, plan.seconds.source, ("time", "take", "hours")),
    )
    for key, limit, value, source, (noun, verb, unit) in limits:
        if limit is None or (value is not None and value <= limit):
            continue
        if value is None and key == "usd" and _quotes(config):
            continue  # the backend asks for the price after the upload, and compares it with the limit itself
        if value is None:
            problem = f"The {noun} of the run is unknown"
            remedy = f"An unknown {noun} cannot be checked: set what is missing, or remove budget.{key}."
        else:
            problem = f"The run is estimated to {verb} {value:.2f} {unit}"
            remedy = f"Train on fewer rows or epochs, or raise budget.{key}."
        raise BudgetError(
            f"{problem} ({source}); budget.{key} allows {limit:g}.", remedy=f"Nothing was started. {remedy}"
        )


def _quotes(config: RunConfig) -> bool:
    return load().backend(config.ref.backend).capabilities_of(config.ref.name).quotes
