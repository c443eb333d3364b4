"""Which rows a job was trained on, kept as numbers, so that a comparison can tell rows that were never held out."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.errors import HomeError, JobNotFound
from tuneport.files import open_regular
from tuneport.homefolder import home
from tuneport.ledger import Ledger
from tuneport.refs import Ref

if TYPE_CHECKING:
    from tuneport.contract.model import Model
    from tuneport.dataset import Dataset, Example

_BLOCK_BYTES = 8 << 16


def remember(job: Ref, rows: Dataset) -> None:
    """Keep the keys of the rows' texts: 8 bytes a row, and nothing of what they say."""
    # Made in a place of its own: several processes may begin the same training, which gets one job.
    with tempfile.TemporaryDirectory(dir=home("rows"), prefix=".") as place:
        made = Path(place) / "keys"
        with made.open("wb") as out:
            rows.text_keys().tofile(out)
        made.replace(_file(job))


def forget(job: Ref) -> None:
    """Forget the rows of a job that is deleted."""
    _file(job).unlink(missing_ok=True)


def count_trained_on(model: Model, rows: Iterable[Example]) -> int | None:
    """How many of the rows the model, or a tuned model that it was trained from, was trained on: those whose texts are
    the same but for case, space and quotes, whatever their system prompts.

    None where it is not known here, as for a base model, a job that another machine started, and keys that are damaged.
    """
    if model.lineage is None:
        return None
    try:
        files = [file for job in _jobs_behind(model.lineage.job) if (file := _file(job)).exists()]
    except HomeError:  # a comparison needs no ledger
        return None
    if not files:
        return None
    from tuneport.dataset import text_key

    keys = [text_key(row) for row in rows]
    wanted = set(keys)
    trained: set[int] = set()
    try:
        for file in files:
            for block in _blocks(file):
                trained.update(wanted.intersection(block))
    except (OSError, ValueError):  # damaged: whole keys are 8 bytes each
        return None
    return sum(key in trained for key in keys)


def _file(job: Ref) -> Path:
    # No two jobs of a ledger have one name. Files named .keys and .texts held other keys.
    return home("rows") / f"{job.name}.turns"


def _jobs_behind(ref: str) -> Iterator[Ref]:
    """The job, and those that made the base that it was trained from."""
    with Ledger.open() as ledger:
        job = Ref.parse(ref)
        while True:
            try:
                record = ledger.job(job)
            except JobNotFound:
                return
            yield job
            job = record.base


def _blocks(file: Path) -> Iterator[array[int]]:
    with open_regular(file) as stored:
        while block := stored.read(_BLOCK_BYTES):
            yield array("Q", block)
