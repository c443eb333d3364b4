"""Notes for a plan: how the rows are read, and how answers will be graded."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuneport.config import RunConfig
    from tuneport.contract.plan import Plan
    from tuneport.dataset import CheckResult, Dataset
    from tuneport.evaluate import Fit

_READINGS = ("context-column-unused", "plain-text", "read-as-turns")


def with_notes(plan: Plan, config: RunConfig, checked: CheckResult, train: Dataset, holdout: Dataset | None) -> Plan:
    """The plan with notes about how rows are read and how answers will be graded."""
    from tuneport.evaluate import AUTO

    notes = [f"{one.message} {one.remedy}" for one in checked.diagnostics if one.code in _READINGS]
    if holdout is not None:
        fit, named = fit_of(train, holdout), config.compare.grader
        grading = f"Answers are graded by {fit.grader}: {fit.why}." if named == AUTO else fit.misfit(named)
        notes += [grading] if grading else []
    return replace(plan, notes=(*plan.notes, *notes))


def fit_of(train: Dataset, holdout: Dataset) -> Fit:
    """The grader that fits the answers of the holdout and of some training rows, because a few rows do not show whether
    answers are labels.
    """
    from tuneport.evaluate import MOST_ROWS, fit_grader

    return fit_grader(chain(holdout, islice(train, MOST_ROWS)), len(holdout) + MOST_ROWS)
