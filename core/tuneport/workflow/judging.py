"""Rows answered by a tuned model and its base, with a count of those that training saw."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from tuneport.refs import Ref
from tuneport.workflow import trained_rows
from tuneport.workflow.opening import open_model

if TYPE_CHECKING:
    from tuneport.contract.model import Model
    from tuneport.contract.schemas import Shape
    from tuneport.dataset import Dataset
    from tuneport.evaluate import Comparison, Grader, Record
    from tuneport.terminal.progress import Tell


def compare_rows(
    tuned: Model,
    rows: Dataset,
    *,
    grader: str | Grader,
    base: Model | str | Literal[False] | None,
    max_tokens: int | None,
    schema: Shape | None,
    record: Record | None,
    tell: Tell | None,
) -> Comparison:
    """What `compare` finds on these rows; `tell` gets (rows answered, rows, "base" or "tuned")."""
    from tuneport.evaluate import compare_models

    if base is None and tuned.lineage is not None:
        base = open_model(Ref.parse(tuned.lineage.base))
    beside = open_model(base) if isinstance(base, str) else (base or None)
    seen = trained_rows.count_trained_on(tuned, rows)
    found = compare_models(
        tuned, beside, rows, grader, max_tokens=max_tokens, schema=schema, record=record, progress=tell
    )
    return replace(found, trained_on=seen)
