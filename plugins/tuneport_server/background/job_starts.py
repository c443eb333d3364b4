"""Starts accepted jobs, each in a separate process that checks the rows within limits."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, TypeGuard

from tuneport.errors import HomeError
from tuneport.plugin import Diagnostic
from tuneport_server.background.bounds import bounds_of
from tuneport_server.background.dialog import Dialog
from tuneport_server.background.faults import Fault, fault_of, interrupted_fault, timeout_fault
from tuneport_server.background.findings import describe
from tuneport_server.background.hyperparameters import training_of
from tuneport_server.background.open_jobs import OpenJobs
from tuneport_server.background.scheduling import FairQueue
from tuneport_server.background.start_job import GO
from tuneport_server.limits import ResourceLimits
from tuneport_server.store import Row, Store
from tuneport_server.vault import Vault

_POLL_SECONDS = 1.0
_DRAIN_SECONDS = 10.0
_STOP_SECONDS = 5.0
_TRIES = 3  # of a check that is killed from outside
_LOGGED = 4000  # bytes of what a start prints
_PARAMS = ("training_file", "validation_file")

_log = logging.getLogger("tuneport.server")


class JobStarts(FairQueue):
    """The starts of jobs. `started` in the store says that a backend may have been asked to start a job.

    Before that, a start can be ended at any time. After it, a start is repeated safely: a job's suffix is unique, so
    the repeated start finds the training that has it. When a server is killed, its processes end soon after it; the
    next server starts no job before.
    """

    def __init__(
        self, store: Store, vault: Vault, jobs: OpenJobs, limits: ResourceLimits, lock: Path, changed: threading.Event
    ) -> None:
        super().__init__("start", limits.starts, _POLL_SECONDS)
        self._store, self._vault, self._jobs, self._limits = store, vault, jobs, limits
        self._changed = changed
        self._submitting: set[str] = set()  # of the running starts, those that have asked their backend
        self._dropped: set[str] = set()  # of the running starts, those that are no longer wanted
        self._abandoned = False  # starts that still run are left to the next server, which repeats them
        self._alone = False
        self._held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def stop(self) -> None:
        """End the starts whose rows are being checked; the next server repeats them. Wait a moment for the others."""
        self._end(0.0)
        for id_ in list(self._processes):
            self.cancel(id_)
        self._end(_DRAIN_SECONDS)
        self._abandoned = True
        self._kill(*list(self._processes))
        self._end(_STOP_SECONDS)

    def cancel(self, id_: str) -> None:
        """End the check of a job that is not wanted now, unless its backend was asked already."""
        with self._lock:
            if id_ not in self._running or id_ in self._submitting:
                return
            self._dropped.add(id_)
        self._kill(id_)

    def _waiting(self, passed: Sequence[str]) -> list[Row]:
        if not self._alone:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no process of an earlier server has it
                fcntl.flock(self._held, fcntl.LOCK_SH)
                self._alone = True
        if not self._alone:
            return []
        return self._store.jobs.next_to_start([*passed, *self._jobs.postponed()])

    def _do(self, row: Row) -> None:
        id_ = row["id"]
        job = self._store.jobs.get(id_)
        try:
            if _can_start(job) and not self._refuse(job):
                self._start(job)
        except FileNotFoundError:
            self._jobs.record(id_).starts.postpone()  # canceled just now: it does not come back
        except OSError as error:  # no process, no file descriptor
            self._postpone_or_fail(id_, fault_of(error), str(error))
        except HomeError:
            self._jobs.record(id_).starts.postpone()
            raise
        finally:
            with self._lock:
                self._submitting.discard(id_)
                self._dropped.discard(id_)
            self._changed.set()
            self.wake()

    def _refuse(self, job: Row) -> bool:
        """Fail a job if the check of an uploaded file has found errors that no method can train on."""
        for param in _PARAMS:
            file = self._store.files.get(job[param]) if job[param] is not None else None
            if job["started"] or file is None or file["details"] is None:
                continue
            found = [
                Diagnostic(**one)
                for one in (self._store.files.check(file["id"]) or {}).get("found", ())
                if one["severity"] == "error"
            ]
            message = file["details"]
            if found and not file["refused"]:
                message = describe(found, self._vault.input(job["id"], param), training_of(job))
            self._jobs.fail(job["id"], f"invalid_{param}", message, param)
            return True
        return False

    def _start(self, job: Row) -> None:
        with tempfile.TemporaryFile() as printed:
            arguments = [str(os.getpid()), *map(str, bounds_of(self._limits))]
            command = ["tuneport_server.background.start_job", *arguments]
            process = self._launch(job["id"], command, subprocess.PIPE, printed, [self._held])
            if process is None:
                return
            with process, Dialog(process) as dialog:
                if job["id"] in self._dropped:  # it was dropped before it had a process to kill
                    process.kill()
                self._jobs.report_once(job["id"], f"Validating training file: {job['training_file']}")
                outcome = self._talk(job, dialog)
            if not self._abandoned:
                self._record(job, outcome, process.returncode, _tail(printed))

    def _talk(self, job: Row, dialog: Dialog) -> dict[str, Any] | None:
        """Return the process's last line, or what its end means; None if the start should leave no trace."""
        id_, limits = job["id"], self._limits
        links = {one: str(self._vault.input(id_, one)) for one in _PARAMS if job[one] is not None}
        request = {"id": id_, "base": job["base"], "request": job["request"], "files": links}
        line = dialog.ask(json.dumps(request).encode() + b"\n", limits.check_seconds)
        if line == {"checked": True}:
            if not self._may_start(id_):
                return None
            line = dialog.ask(GO, limits.start_seconds)
        if id_ in self._dropped or line is not None:
            return line
        if id_ in self._submitting:
            return {"fault": timeout_fault(limits.start_seconds) if dialog.late else interrupted_fault("The start")}
        if dialog.late:
            why = f"The check of the rows takes more than {limits.check_seconds:,} seconds."
            return {"file": "training_file", "message": why}
        record = self._jobs.record(id_)
        record.killed_checks += 1
        if record.killed_checks < _TRIES:
            return {"fault": interrupted_fault("The check of the rows")}
        why = f"The check of the rows ended {_TRIES} times without a result."
        return {"file": "training_file", "message": why}

    def _may_start(self, id_: str) -> bool:
        """Store that the backend is asked now, unless the job is no longer wanted."""
        with self._store.transaction():
            if not _can_start(self._store.jobs.get(id_)):
                return False
            with self._lock:
                if self._stopping or id_ in self._dropped:
                    return False
                self._submitting.add(id_)
            self._store.jobs.update(id_, started=1)
        return True

    def _record(self, job: Row, outcome: dict[str, Any] | None, code: int, printed: str) -> None:
        """Store the outcome of a start."""
        id_, jobs = job["id"], self._store.jobs
        if outcome is None:
            return
        if "fault" in outcome:
            log = f"{outcome.get('log', f'its process ended with {code}')}\n{printed}".strip()
            self._postpone_or_fail(id_, Fault(*outcome["fault"]), log)
        elif "file" in outcome:
            self._jobs.fail(id_, f"invalid_{outcome['file']}", outcome["message"], outcome["file"])
        elif "unfinished" in outcome:
            _log.warning("%s: %s", id_, outcome["message"])
            jobs.update(id_, ref=outcome["unfinished"], status="queued")
        else:
            with self._store.transaction():
                jobs.update(id_, ref=outcome["ref"])
                if job["status"] == "validating_files":
                    jobs.update(id_, status="queued")
                self._jobs.report_once(id_, "Files validated. The training is submitted.")
        self._vault.release_inputs()

    def _postpone_or_fail(self, id_: str, fault: Fault, log: str) -> None:
        """Try again later what may pass, and fail the job for what does not."""
        _log.error("%s could not be started: %s", id_, log)
        if self._jobs.record(id_).starts.postpone() >= fault.tries:
            self._jobs.fail(id_, fault.code, fault.message)
            return
        try:
            self._jobs.report_once(id_, f"Not started yet; the server tries again: {fault.reason}", "warn")
        except HomeError as full:  # the store has no room either: the job is tried again all the same
            _log.error("%s", full)


def _can_start(row: Row | None) -> TypeGuard[Row]:
    """Should the job be started? A start that may have reached the backend is repeated to learn its outcome."""
    if row is None or row["over"] or row["ref"] is not None:
        return False
    return bool(row["started"]) or not row["want"]


def _tail(printed: IO[bytes]) -> str:
    size = printed.seek(0, os.SEEK_END)
    printed.seek(max(0, size - _LOGGED))
    return printed.read().decode("utf-8", "replace").strip()
