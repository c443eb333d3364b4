"""Remembers the rows that a job was trained on, as hashes, so that a comparison can find rows that were not held
out.
"""

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
    """Keep the hashes of the rows' texts: 8 bytes per row, without their content."""
    # Written in a separate folder, because several processes may start the same training, which is one job.
    with tempfile.TemporaryDirectory(dir=home("rows"), prefix=".") as place:
        file = Path(place) / "keys"
        with file.open("wb") as out:
            rows.text_keys().tofile(out)
        file.replace(_file(job))


def forget(job: Ref) -> None:
    """Forget the rows of a job that is deleted."""
    _file(job).unlink(missing_ok=True)


def count_trained_on(model: Model, rows: Iterable[Example]) -> int | None:
    """How many of the rows the model, or a tuned model that it was trained from, was trained on. Texts count as equal
    if they differ only in case, white space and quotes. System prompts are ignored.

    None if it is unknown, as for a base model, a job of another machine, or damaged hashes.
    """
    if model.lineage is None:
        return None
    try:
        files = [file for job in _ancestors(model.lineage.job) if (file := _file(job)).exists()]
    except HomeError:  # a comparison works without a ledger
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
    except (OSError, ValueError):  # damaged: a complete hash has 8 bytes
        return None
    return sum(key in trained for key in keys)


def _file(job: Ref) -> Path:
    # Names of jobs are unique in a ledger. Files named .keys and .texts had other kinds of hashes.
    return home("rows") / f"{job.name}.turns"


def _ancestors(ref: str) -> Iterator[Ref]:
    """The job, and the jobs whose models it was trained from."""
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
