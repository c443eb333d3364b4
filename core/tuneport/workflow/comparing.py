"""A tuned model beside its base, on rows that a caller names or on the job's own holdout."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tuneport.doors import public
from tuneport.errors import JobNotFound, UsageError
from tuneport.ledger import Ledger
from tuneport.refs import Ref
from tuneport.workflow.advice import fit_of
from tuneport.workflow.judging import compare_rows
from tuneport.workflow.opening import open_model
from tuneport.workflow.running import split_of
from tuneport.workflow.starting import opened

if TYPE_CHECKING:
    from tuneport.contract.model import Model
    from tuneport.contract.schemas import Shape
    from tuneport.dataset import Dataset
    from tuneport.evaluate import Comparison, Grader, Record
    from tuneport.workflow.starting import Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnHoldout:
    """The rows that a run kept from training, and how its config grades answers to them."""

    rows: Dataset
    grader: Grader
    max_tokens: int | None
    schema: Mapping[str, Any] | None
    record: str | None


def own_holdout(model: Model) -> OwnHoldout:
    """The holdout of the run that trained a model, read from its data file again. Raises UsageError where it has none,
    and DataError where the file is gone or cannot be used any more.
    """
    from tuneport.config import RunConfig
    from tuneport.evaluate import AUTO, grader

    ref = Ref.parse(model.lineage.job) if model.lineage else model.ref
    with Ledger.open() as ledger:
        try:
            record = ledger.job(ref)
        except JobNotFound as error:
            raise _no_holdout(f"{ref} is no job of this machine") from error
    config = RunConfig.model_validate(record.config) if record.config else None
    if config is None or config.data.train is None or not config.data.holdout:
        raise _no_holdout(f"{ref} was trained without a holdout")
    if "-" in (config.data.train, config.data.holdout):
        raise _no_holdout(f"The rows of {ref} came from standard input")
    split = split_of(config)
    rows = split.holdout
    if rows is None or not len(rows):
        raise _no_holdout(f"The holdout of {ref} has no rows")
    asked = config.compare
    named = fit_of(split.train, rows).grader if asked.grader == AUTO else asked.grader
    if asked.rows is not None:
        rows = rows.sample(asked.rows, seed=config.train.row_seed)
    return OwnHoldout(
        rows=rows,
        grader=grader(named, **asked.options),
        max_tokens=asked.max_tokens,
        schema=asked.json_schema,
        record=asked.record,
    )


def _no_holdout(why: str) -> UsageError:
    return UsageError(
        f"{why}: there are no rows to compare on.", remedy="Name a file of rows that it never saw: --data FILE"
    )


@public()
def compare(
    model: Model | str,
    holdout: Rows | None = None,
    *,
    grader: str | Grader | None = None,
    base: Model | str | Literal[False] | None = None,
    max_tokens: int | None = None,
    schema: Shape | None = None,
    record: Record | str | os.PathLike[str] | None = None,
    progress: Callable[[int, int, str], None] | bool | None = None,
) -> Comparison:
    """The tuned model beside its base (from its lineage; another `base`, or False for none) on rows it never saw: those
    of `holdout`, by default the holdout of the run that trained it, graded as its config says.

    `grader` is `auto` (for rows of your own: the one that fits the answers), a built-in's name, `module:function`, or a
    function `(example, answer) -> float` from 0 to 1. `schema` makes both models answer with JSON of that form (see
    `Model.reply`). `record` is a folder with another model's recorded answers, as `tuneport move` writes it: they are
    graded on the same rows (`Comparison.recorded`). `progress` gets (rows answered, rows, "base" or "tuned"); by
    default a terminal and a notebook show it, and False shows nothing. The result's `trained_on` counts rows that the
    model saw after all. Raises UsageError where there is no holdout.
    """
    from tuneport.evaluate import Record
    from tuneport.terminal.progress import shown

    tuned = open_model(model) if isinstance(model, str) else model
    if holdout is None:
        own = own_holdout(tuned)
        holdout, grader = own.rows, grader or own.grader
        record = own.record if record is None else record
        max_tokens, schema = max_tokens or own.max_tokens, own.schema if schema is None else schema
    with shown(f"Comparing {tuned.ref}", progress) as tell:
        return compare_rows(
            tuned,
            opened(holdout),
            grader=grader or "auto",
            base=base,
            max_tokens=max_tokens,
            schema=schema,
            record=Record.open(record) if isinstance(record, str | os.PathLike) else record,
            tell=tell,
        )
