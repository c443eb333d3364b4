"""A tuned model compared with its base, on rows that a caller passes or on the holdout of the model's own run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tuneport.doors import public
from tuneport.errors import JobNotFound, UsageError
from tuneport.ledger import Ledger
from tuneport.refs import Ref
from tuneport.workflow import trained_rows
from tuneport.workflow.advice import fit_of
from tuneport.workflow.opening import open_model
from tuneport.workflow.preparing import split_of
from tuneport.workflow.starting import open_rows

if TYPE_CHECKING:
    from tuneport.contract.model import Model
    from tuneport.contract.schemas import Shape
    from tuneport.dataset import Dataset
    from tuneport.evaluate import Comparison, Grader, Record
    from tuneport.terminal.progress import Progress
    from tuneport.workflow.starting import Rows


@public()
def compare(
    model: Model | str,
    holdout: Rows | None = None,
    *,
    grader: str | Grader | None = None,
    base: Model | str | Literal[False] | None = None,
    rows: int | None = None,
    seed: int = 0,
    max_tokens: int | None = None,
    schema: Shape | None = None,
    record: Record | str | os.PathLike[str] | None = None,
    progress: Progress | bool | None = None,
) -> Comparison:
    """Compare a tuned model with its base on rows that training did not see.

    The rows are `holdout`, or by default the holdout of the run that trained the model, graded as its config says. With
    `rows`, at most that many are used, drawn by `seed`. The base comes from the model's lineage; `base` replaces it,
    and False leaves it out.

    `grader` is `auto` (for your own rows: the one that fits the answers), the name of a built-in grader,
    `module:function`, or a function `(example, answer) -> float` from 0 to 1. `schema` makes both models answer with
    JSON of that schema (see `Model.reply`). `record` is a folder with another model's recorded answers, as
    `tuneport move` writes it; they are graded on the same rows (`Comparison.recorded`). `progress` is called with (rows
    answered, rows in all, "base" or "tuned"); by default a terminal or notebook shows it, and False shows nothing.

    The result's `trained_on` counts rows that the model was trained on after all. Raises UsageError if the run has no
    holdout, and DataError if its file is gone or can no longer be used.
    """
    from tuneport.evaluate import Record
    from tuneport.terminal.progress import show_progress

    tuned = open_model(model) if isinstance(model, str) else model
    if holdout is None:
        own = own_holdout(tuned)
        holdout, grader = own.rows, grader or own.grader
        record = own.record if record is None else record
        max_tokens, schema = max_tokens or own.max_tokens, own.schema if schema is None else schema
    data = open_rows(holdout)
    with show_progress(f"Comparing {tuned.ref}", progress) as report:
        return compare_rows(
            tuned,
            data if rows is None else data.sample(rows, seed=seed),
            grader=grader or "auto",
            base=base,
            max_tokens=max_tokens,
            schema=schema,
            record=Record.open(record) if isinstance(record, str | os.PathLike) else record,
            progress=report,
        )


def compare_rows(
    tuned: Model,
    rows: Dataset,
    *,
    grader: str | Grader,
    base: Model | str | Literal[False] | None,
    max_tokens: int | None,
    schema: Shape | None,
    record: Record | None,
    progress: Progress | None,
) -> Comparison:
    """The comparison on exactly these rows, with a count of those that the tuned model was trained on."""
    from tuneport.evaluate import compare_models

    if base is None and tuned.lineage is not None:
        base = open_model(Ref.parse(tuned.lineage.base))
    other = open_model(base) if isinstance(base, str) else (base or None)
    trained_on = trained_rows.count_trained_on(tuned, rows)
    comparison = compare_models(
        tuned, other, rows, grader, max_tokens=max_tokens, schema=schema, record=record, progress=progress
    )
    return replace(comparison, trained_on=trained_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnHoldout:
    """The rows that a run held out, and how its config grades answers to them."""

    rows: Dataset
    grader: Grader
    max_tokens: int | None
    schema: Mapping[str, Any] | None
    record: str | None


def own_holdout(model: Model) -> OwnHoldout:
    """The holdout of the run that trained a model, read from its data file again.

    Raises UsageError if the run has none, and DataError if the file is gone or can no longer be used.
    """
    from tuneport.config import RunConfig
    from tuneport.evaluate import AUTO, grader

    ref = Ref.parse(model.lineage.job) if model.lineage else model.ref
    with Ledger.open() as ledger:
        try:
            record = ledger.job(ref)
        except JobNotFound as error:
            raise _no_holdout(f"{ref} is not a job of this machine") from error
    config = RunConfig.model_validate(record.config) if record.config else None
    if config is None or config.data.train is None or not config.data.holdout:
        raise _no_holdout(f"{ref} was trained without a holdout")
    if "-" in (config.data.train, config.data.holdout):
        raise _no_holdout(f"The rows of {ref} came from standard input")
    split = split_of(config)
    rows = split.holdout
    if rows is None or not len(rows):
        raise _no_holdout(f"The holdout of {ref} has no rows")
    wanted = config.compare
    name = fit_of(split.train, rows).grader if wanted.grader == AUTO else wanted.grader
    if wanted.rows is not None:
        rows = rows.sample(wanted.rows, seed=config.train.row_seed)
    return OwnHoldout(
        rows=rows,
        grader=grader(name, **wanted.options),
        max_tokens=wanted.max_tokens,
        schema=wanted.json_schema,
        record=wanted.record,
    )


def _no_holdout(why: str) -> UsageError:
    return UsageError(
        f"{why}, so there are no rows to compare on.",
        remedy="Pass a file of rows that the model has not seen: --data FILE",
    )
