"""From an accepted job to a training: its files opened and checked, its hyperparameters translated."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import tuneport
from tuneport import DataError, Dataset, Diagnostic, Job, Ref
from tuneport_server.findings import told
from tuneport_server.hyperparameters import METHODS, Asked, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuneport_server.store import Row


class BadFile(Exception):  # noqa: N818 - reads as what happened
    """A file that cannot be trained on; the text names lines and pointers, `param` the field that named the file."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


def start(row: Row, file_of: Callable[[str], Path]) -> Job:
    """Start the training of a job, or find the one that an earlier start has begun. `file_of` gives the path of its
    `training_file` and `validation_file`. Raises BadFile for rows that cannot be trained on, and TuneportError for what
    else stands in the way.
    """
    request = json.loads(row["request"])
    asked = Asked(base=Ref.parse(row["base"]), **request["asked"])
    training = open_file(file_of("training_file"))
    steering = _checked(file_of("validation_file"), asked) if row["validation_file"] is not None else None
    stem = re.sub(r"[^A-Za-z0-9]+", "-", request["suffix"] or "").strip("-")[:24] or "job"
    try:
        return tuneport.train(
            asked.base,
            training,
            validation=steering,
            method=METHODS[asked.method],
            epochs=asked.n_epochs,
            seed=asked.seed,
            # Part of what makes a training itself: no other job, and this one started again, has the same.
            suffix=f"{stem}-{row['id'][-12:]}",
            settings=settings_for(asked, training, steering),
            metadata={"fine_tuning_job": row["id"]},
        )
    except DataError as error:
        found = [one for one in error.diagnostics if isinstance(one, Diagnostic)]
        said = told(found, file_of("training_file"), asked) if found else error.message
        raise BadFile("training_file", said) from error


def open_file(path: Path) -> Dataset:
    """The rows of an uploaded file."""
    return Dataset.load(path, "jsonl")


def _checked(path: Path, asked: Asked) -> Dataset:
    rows = open_file(path)
    profile = tuneport.open_backend(asked.base.backend).profile(asked.base.name)
    result = rows.check(replace(profile, min_rows=1), method=METHODS[asked.method])  # to steer by, few will do
    if not result.ok:
        wrong = [one for one in result.diagnostics if one.severity == "error"]
        raise BadFile("validation_file", told(wrong, path, asked))
    return rows
