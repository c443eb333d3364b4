"""From an accepted job to a training, in a process of its own: its files checked, its hyperparameters translated.

The server writes the job as a line of JSON. This process checks the rows within bounds and answers `{"checked": true}`;
the server answers `go`, unless the job is not wanted any more; then the training is started. The last line says what
came of it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tuneport
from tuneport.errors import DataError, JobNotFinished, TuneportError
from tuneport.plugin import Dataset, Diagnostic, Job, Ref
from tuneport_server.background.bounds import Bounds, bound, end_with
from tuneport_server.background.faults import fault_of
from tuneport_server.background.findings import told
from tuneport_server.background.hyperparameters import METHODS, Asked, refuse, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GO = b"go\n"


class BadFile(Exception):  # noqa: N818 - reads as what happened
    """A file that cannot be trained on; the text names lines and pointers, `param` the field that named the file."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class _NotWanted(BaseException):
    """The server does not want the training any more."""


def asked_of(job: Mapping[str, Any]) -> Asked:
    """The training that a job's row describes."""
    return Asked(base=Ref.parse(job["base"]), **json.loads(job["request"])["asked"])


def start(job: Mapping[str, Any], files: Mapping[str, Path], before_start: Callable[[], object]) -> Job:
    """Start the training of a job, or find the one that an earlier start has begun. `files` has the paths of its
    `training_file` and `validation_file`. Raises BadFile for rows that cannot be trained on, and TuneportError for what
    else stands in the way.
    """
    asked, training = asked_of(job), open_file(files["training_file"])
    steering = open_file(files["validation_file"]) if "validation_file" in files else None
    stem = re.sub(r"[^A-Za-z0-9]+", "-", json.loads(job["request"])["suffix"] or "").strip("-")[:24] or "job"
    try:
        return tuneport.train(
            asked.base,
            training,
            validation=steering,
            method=METHODS[asked.method],
            epochs=asked.n_epochs,
            seed=asked.seed,
            # Part of what makes a training itself: no other job, and this one started again, has the same.
            suffix=f"{stem}-{job['id'][-12:]}",
            settings=settings_for(asked, training, steering),
            metadata={"fine_tuning_job": job["id"]},
            before_start=before_start,
        )
    except DataError as error:
        found = [one for one in error.diagnostics if isinstance(one, Diagnostic)]
        param = next((name for name, path in files.items() if found and found[0].file == str(path)), "training_file")
        said = told(found, files[param], asked) if found else error.message
        raise BadFile(param, said) from error


def open_file(path: Path) -> Dataset:
    """The rows of an uploaded file."""
    return Dataset.load(path, "jsonl")


class _Gate:
    """What stands between the checks and the start: the bounds hold before it, and the server's word opens it."""

    def __init__(self, say: Callable[[Any], None], bounds: Bounds) -> None:
        self._say, self._lift = say, bound(bounds)
        self.passed = False

    def __call__(self) -> None:
        self._say({"checked": True})
        if sys.stdin.buffer.readline() != GO:
            raise _NotWanted
        self.passed = True
        self._lift()


def _outcome(job: Mapping[str, Any], say: Callable[[Any], None], bounds: Bounds) -> dict[str, Any]:
    gate = None
    try:
        # As the creation of the job did. It brings the backend and its tokenizer here, which is no part of the bounds.
        refuse(asked_of(job))
        gate = _Gate(say, bounds)
        started = start(job, {param: Path(path) for param, path in job["files"].items()}, gate)
        return {"ref": str(started.ref)}
    except BadFile as error:
        return {"file": error.param, "message": str(error)}
    except JobNotFinished as error:  # it may have been started, and is paid for then: it is looked for from now on
        return {"unfinished": error.ref, "message": error.message}
    except Exception as error:  # noqa: BLE001 - whatever it is, the server decides what becomes of the job
        checking = gate is not None and not gate.passed
        if isinstance(error, MemoryError) and checking:
            said = f"Checking the rows takes more than {bounds.memory:,} bytes of memory."
            return {"file": "training_file", "message": said}
        if not isinstance(error, TuneportError):
            traceback.print_exc()
        return {"fault": fault_of(error, checking=checking), "log": str(error)}


def _main(parent: str, *bounds: str) -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def say(what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    end_with(int(parent))
    job = json.loads(sys.stdin.buffer.readline())
    try:
        say(_outcome(job, say, Bounds(*map(int, bounds))))
    except _NotWanted:
        return


if __name__ == "__main__":
    _main(*sys.argv[1:])
