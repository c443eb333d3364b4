"""From a config to checked rows in their parts, and everything that can be refused before anything is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneport.errors import DataError, OptionError, UnsupportedError
from tuneport.workflow import choosing
from tuneport.workflow.advice import fit_of
from tuneport.workflow.loading import load_dataset
from tuneport.workflow.naming import with_base
from tuneport.workflow.observer import RunObserver
from tuneport.workflow.opening import open_backend
from tuneport.workflow.split import Split

if TYPE_CHECKING:
    from tuneport.config import RunConfig
    from tuneport.dataset import CheckResult, Dataset


def prepare(
    config: RunConfig, observer: RunObserver, *, to_plan: bool = False
) -> tuple[Split, CheckResult, choosing.Prepared]:
    """Refuse what can be refused, then check the rows and split them. With `to_plan`, no code of the user's runs."""
    from tuneport.evaluate import AUTO, Record, grader

    data = config.data
    if data.train is None:
        raise DataError("The config has no rows to train on.", remedy="Set data.train, or pass a data file.")
    named = config.compare.grader
    judge = None if named == AUTO else grader(named, **config.compare.options)
    if config.compare.record is not None:
        Record.open(config.compare.record)  # a missing or damaged record is found before anything is spent
    choice = choosing.choose(config, to_plan=to_plan)
    _refuse_schema(config)
    validation, holdout = _load_file(config, data.validation), _load_file(config, data.holdout)
    # Only rows from separate files can leak into training. Parts that we split off cannot.
    checked = choice.check(_load(config, data.train), holdout, validation)
    observer.on_check(checked)
    choosing.refuse_bad_data(checked, config)
    if validation is not None:
        validation = choice.check_validation(validation, holdout)
    split = _split(config, checked.dataset, validation, holdout)
    if split.holdout is not None:
        judge = judge or grader(fit_of(split.train, split.holdout).grader, **config.compare.options)
        if not (to_plan and judge.runs_own_code):
            judge.rehearse(split.holdout)  # a grader that cannot read these rows fails here, before anything is spent
    observer.on_split(split)
    return split, checked, choice.with_rows(split.train, split.validation)


def split_of(config: RunConfig) -> Split:
    """How a run would split the rows of a config. Starts and spends nothing."""
    return prepare(with_base(config), RunObserver(), to_plan=True)[0]


def _refuse_schema(config: RunConfig) -> None:
    """Refuse a schema that the backend's models cannot follow."""
    schema = config.compare.json_schema
    if schema is None:
        return
    base = open_backend(config.ref.backend).model(config.ref.name)
    if "schema" not in base.takes:
        raise UnsupportedError(
            f"compare.json_schema: {config.ref} does not support a schema.",
            option="schema",
            remedy="Remove json_schema, or choose a model of a backend that supports it.",
        )
    try:
        base.check_schema(schema)
    except OptionError as error:
        raise OptionError(f"compare.json_schema: {error.message}", option="schema", remedy=error.remedy) from error


def _split(config: RunConfig, rows: Dataset, validation: Dataset | None, holdout: Dataset | None) -> Split:
    shares = {
        part: value
        for part, value in (("holdout", config.data.holdout), ("validation", config.data.validation))
        if isinstance(value, float) and value
    }
    parts = iter(rows.split(**shares, seed=config.train.row_seed) if shares else (rows,))
    return Split(
        train=next(parts),
        validation=next(parts) if "validation" in shares else validation,
        holdout=next(parts) if "holdout" in shares else holdout,
    )


def _load_file(config: RunConfig, value: float | str | None) -> Dataset | None:
    return _load(config, value) if isinstance(value, str) else None


def _load(config: RunConfig, source: str) -> Dataset:
    data = config.data
    return load_dataset(
        source, data.format, data.columns or None, system=data.system, encoding=data.encoding, sheet=data.sheet
    )
