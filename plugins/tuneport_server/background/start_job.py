"""Starts one accepted job, in a separate process: checks its files, and translates its hyperparameters.

The server writes the job as a line of JSON. This process checks the rows within limits and answers `{"checked": true}`.
The server answers `go`, unless the job is no longer wanted; then the training is started. The last line is the outcome.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tuneport
from tuneport.errors import DataError, JobNotFinished, TuneportError
from tuneport.plugin import Dataset, Diagnostic, Job
from tuneport_server.background.bounds import Bounds, end_with, limit_process
from tuneport_server.background.faults import cause_of, fault_of
from tuneport_server.background.findings import describe
from tuneport_server.background.hyperparameters import METHODS, check_training, settings_for, training_of

GO = b"go\n"


class BadFile(Exception):  # noqa: N818 - reads as what happened
    """A file that cannot be trained on. The text names lines and pointers, `param` is the field that named the file."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class _NotWanted(BaseException):
    """The server no longer wants the training."""


def start(job: Mapping[str, Any], files: Mapping[str, Path], before_start: Callable[[], object]) -> Job:
    """Start the training of a job, or find the one that an earlier start began. `files` has the paths of its
    `training_file` and `validation_file`. Raises BadFile for rows that cannot be trained on, and TuneportError for
    anything else that prevents the start.
    """
    request, training = training_of(job), Dataset.load(files["training_file"], "jsonl")
    validation = Dataset.load(files["validation_file"], "jsonl") if "validation_file" in files else None
    stem = re.sub(r"[^A-Za-z0-9]+", "-", json.loads(job["request"])["suffix"] or "").strip("-")[:24] or "job"
    try:
        return tuneport.train(
            request.base,
            training,
            validation=validation,
            method=METHODS[request.method],
            epochs=request.n_epochs,
            seed=request.seed,
            # Part of the training's identity: no other job has it, and a repeated start of this one has the same.
            suffix=f"{stem}-{job['id'][-12:]}",
            settings=settings_for(request, training, validation),
            metadata={"fine_tuning_job": job["id"]},
            before_start=before_start,
        )
    except DataError as error:
        found = [one for one in error.diagnostics if isinstance(one, Diagnostic)]
        param = next((name for name, path in files.items() if found and found[0].file == str(path)), "training_file")
        raise BadFile(param, describe(found, files[param], request) if found else error.message) from error


class _Gate:
    """Called between the checks and the start: the limits hold until the server answers."""

    def __init__(self, write: Callable[[Any], None], bounds: Bounds) -> None:
        self._write, self._lift = write, limit_process(bounds)
        self.passed = False

    def __call__(self) -> None:
        self._write({"checked": True})
        if sys.stdin.buffer.readline() != GO:
            raise _NotWanted
        self.passed = True
        self._lift()


def _outcome(job: Mapping[str, Any], write: Callable[[Any], None], bounds: Bounds) -> dict[str, Any]:
    gate = None
    try:
        # As the creation of the job did. It loads the backend and its tokenizer, before the limits apply.
        check_training(training_of(job))
        gate = _Gate(write, bounds)
        started = start(job, {param: Path(path) for param, path in job["files"].items()}, gate)
        return {"ref": str(started.ref)}
    except BadFile as error:
        return {"file": error.param, "message": str(error)}
    except JobNotFinished as error:  # it may have been started and cost money: the server searches for it from now on
        return {"unfinished": error.ref, "message": error.message}
    except Exception as error:  # noqa: BLE001 - whatever it is, the server decides what it means for the job
        checking, cause = gate is not None and not gate.passed, cause_of(error)
        if isinstance(cause, MemoryError) and checking:
            message = f"Checking the rows takes more than {bounds.memory:,} bytes of memory."
            return {"file": "training_file", "message": message}
        if not isinstance(cause, TuneportError):
            traceback.print_exc()
        return {"fault": fault_of(error, checking=checking), "log": str(error)}


def _main(parent: str, *bounds: str) -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is not an answer

    def write(value: Any) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    end_with(int(parent))
    job = json.loads(sys.stdin.buffer.readline())
    try:
        write(_outcome(job, write, Bounds(*map(int, bounds))))
    except _NotWanted:
        return


if __name__ == "__main__":
    _main(*sys.argv[1:])
