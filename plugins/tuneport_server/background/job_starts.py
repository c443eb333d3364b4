"""Starts accepted jobs, each in a process of its own that checks their rows within bounds."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeGuard

from tuneport.errors import HomeError
from tuneport.plugin import Diagnostic
from tuneport_server import files
from tuneport_server.background.bounds import bounds_of
from tuneport_server.background.faults import Fault, Retries, fault_of, killed, late
from tuneport_server.background.findings import told
from tuneport_server.background.scheduling import Turns
from tuneport_server.background.start_job import GO, asked_of

if TYPE_CHECKING:
    from tuneport_server.server import Server
    from tuneport_server.store import Row

_POLL_SECONDS = 1.0
_DRAIN_SECONDS = 10.0
_STOP_SECONDS = 5.0
_TRIES = 3  # of a check that is killed from outside
_LAST_SECONDS = 5.0  # for a process to end after its last word
_LOGGED = 4000  # bytes of what a start prints
_PARAMS = ("training_file", "validation_file")
_OLDEST = (  # of each token, but for the jobs that are named
    "SELECT id, owner, min(n) AS n FROM jobs WHERE over = 0 AND ref IS NULL AND (begun = 1 OR want = '')"
    " AND NOT EXISTS (SELECT 1 FROM files WHERE status = 'uploaded' AND id IN (training_file, validation_file))"
    " AND id NOT IN (SELECT value FROM json_each(?)) GROUP BY owner"
)

_log = logging.getLogger("tuneport.server")


class Starts(Turns):
    """The starts of jobs. `begun` in the store says that a backend may have been asked to start one.

    Until then a start may be ended at any time. Afterwards it is repeated safely: a job's suffix is its own, and so
    finds the training that it names. A process of a killed server ends soon after it; no start begins before.
    """

    def __init__(self, server: Server) -> None:
        super().__init__("start", server.limits.starts, _POLL_SECONDS)
        self._server = server
        self._retries = Retries()
        self._killed: Counter[str] = Counter()
        self._begun: set[str] = set()  # of the running ones, those whose backend is asked
        self._dropped: set[str] = set()  # of the running ones, those that are not wanted
        self._left = False  # the starts that still run are given up: the next server repeats them
        self._alone = False
        self._held = os.open(server.folder / "starts", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def stop(self) -> None:
        """End the starts whose rows are being checked; the next server makes them again. Wait a little for others."""
        self._end(0.0)
        for id_ in list(self._processes):
            self.cancel(id_)
        self._end(_DRAIN_SECONDS)
        self._left = True
        self._kill(*list(self._processes))
        self._end(_STOP_SECONDS)

    def cancel(self, id_: str) -> None:
        """The job is not wanted any more, or not now, and no backend was asked: end its check."""
        with self._lock:
            if id_ not in self._running or id_ in self._begun:
                return
            self._dropped.add(id_)
        self._kill(id_)

    def forget(self, id_: str) -> None:
        """Try the job at once, and count its faults from the beginning."""
        self._retries.forget(id_)
        self._killed.pop(id_, None)

    def _waiting(self, passed: Sequence[str]) -> list[Row]:
        if not self._alone:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no process of an earlier server has it
                fcntl.flock(self._held, fcntl.LOCK_SH)
                self._alone = True
        if not self._alone:
            return []
        return self._server.store.rows(_OLDEST, json.dumps([*passed, *self._retries.waiting()]))

    def _do(self, row: Row) -> None:
        id_ = row["id"]
        job = self._server.store.row("SELECT * FROM jobs WHERE id = ?", id_)
        try:
            if _startable(job) and not self._refused(job):
                self._start(job)
        except FileNotFoundError:
            self._retries.postpone(id_)  # cancelled just now: it will not come back
        except OSError as error:  # no process, no descriptor
            self._not_started(id_, fault_of(error), str(error))
        except HomeError:
            self._retries.postpone(id_)
            raise
        finally:
            with self._lock:
                self._begun.discard(id_)
                self._dropped.discard(id_)
            self._server.trainer.wake()

    def _refused(self, job: Row) -> bool:
        """Fail a job for what the check of an uploaded file has found already, whatever the job's method."""
        for param in _PARAMS:
            file = self._server.store.row("SELECT * FROM files WHERE id = ?", job[param])
            if job["begun"] or file is None or file["details"] is None:
                continue
            found = [
                Diagnostic(**one)
                for one in (self._server.checks.result(file["id"]) or {}).get("found", ())
                if one["severity"] == "error"
            ]
            link = files.link_of(self._server, job["id"], param)
            said = told(found, link, asked_of(job)) if found and not file["refused"] else file["details"]
            self._server.trainer.fail(job["id"], f"invalid_{param}", said, param)
            return True
        return False

    def _start(self, job: Row) -> None:
        with tempfile.TemporaryFile() as printed:
            words = [str(os.getpid()), *map(str, bounds_of(self._server.limits))]
            command = ["tuneport_server.background.start_job", *words]
            process = self._launch(job["id"], command, subprocess.PIPE, printed, [self._held])
            if process is None:
                return
            with process, _Timed(process) as timed:
                if job["id"] in self._dropped:  # it was not there yet when it was to be ended
                    process.kill()
                self._server.trainer.tell_once(job["id"], f"Validating training file: {job['training_file']}")
                outcome = self._talk(job, timed)
            if not self._left:
                self._settle(job, outcome, process.returncode, _tail(printed))

    def _talk(self, job: Row, timed: _Timed) -> dict[str, Any] | None:
        """The last line of a process, or what its end says; None where nothing came of it that counts."""
        id_, limits = job["id"], self._server.limits
        links = {one: str(files.link_of(self._server, id_, one)) for one in _PARAMS if job[one] is not None}
        asked = {"id": id_, "base": job["base"], "request": job["request"], "files": links}
        said = timed.ask(json.dumps(asked).encode() + b"\n", limits.check_seconds)
        if said == {"checked": True}:
            if not self._may_begin(id_):
                return None
            said = timed.ask(GO, limits.start_seconds)
        if id_ in self._dropped or said is not None:
            return said
        if id_ in self._begun:
            return {"fault": late(limits.start_seconds) if timed.late else killed("The start")}
        if timed.late:
            why = f"The check of the rows takes more than {limits.check_seconds:,} seconds."
            return {"file": "training_file", "message": why}
        self._killed[id_] += 1
        if self._killed[id_] < _TRIES:
            return {"fault": killed("The check of the rows")}
        why = f"The check of the rows ended {_TRIES} times without a result."
        return {"file": "training_file", "message": why}

    def _may_begin(self, id_: str) -> bool:
        """Write down that the backend is asked now, unless the job is not wanted."""
        store = self._server.store
        with store.write():
            row = store.row("SELECT * FROM jobs WHERE id = ?", id_)
            if not _startable(row):
                return False
            with self._lock:
                if self._stopping or id_ in self._dropped:
                    return False
                self._begun.add(id_)
            store.update("jobs", id_, begun=1)
        return True

    def _settle(self, job: Row, outcome: dict[str, Any] | None, code: int, printed: str) -> None:
        """Write down what came of a start."""
        id_, store, trainer = job["id"], self._server.store, self._server.trainer
        if outcome is None:
            return
        if "fault" in outcome:
            log = f"{outcome.get('log', f'its process ended with {code}')}\n{printed}".strip()
            self._not_started(id_, Fault(*outcome["fault"]), log)
        elif "file" in outcome:
            trainer.fail(id_, f"invalid_{outcome['file']}", outcome["message"], outcome["file"])
        elif "unfinished" in outcome:
            _log.warning("%s: %s", id_, outcome["message"])
            store.update("jobs", id_, ref=outcome["unfinished"], status="queued")
        else:
            with store.write():
                store.update("jobs", id_, ref=outcome["ref"])
                if job["status"] == "validating_files":
                    store.update("jobs", id_, status="queued")
                trainer.tell_once(id_, "Files validated, the training is submitted.")
        files.release_inputs(self._server)

    def _not_started(self, id_: str, fault: Fault, log: str) -> None:
        """Try again later what may pass, and end the job for what does not."""
        _log.error("%s could not be started: %s", id_, log)
        if self._retries.postpone(id_) >= fault.tries:
            self._server.trainer.fail(id_, fault.code, fault.message)
            return
        try:
            self._server.trainer.tell_once(id_, f"Not started yet, and tried again: {fault.reason}", "warn")
        except HomeError as full:  # the store has no room either: the job is tried again all the same
            _log.error("%s", full)


def _startable(row: Row | None) -> TypeGuard[Row]:
    """Whether a job should be started. A repeated start learns what became of the first."""
    if row is None or row["over"] or row["ref"] is not None:
        return False
    return bool(row["begun"]) or not row["want"]


class _Timed:
    """Questions to a process, each with a time for its answer; the process is killed when that is over."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.late = False

    def __enter__(self) -> _Timed:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # which ends one that waits for a word
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_SECONDS)
        self._process.kill()

    def ask(self, question: bytes, seconds: float) -> dict[str, Any] | None:
        """The line that answers; None where the process ends without one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._timer(seconds), contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(question)
            self._process.stdin.flush()
            return dict(json.loads(self._process.stdout.readline()))
        return None

    @contextmanager
    def _timer(self, seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, self._too_late)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _too_late(self) -> None:
        self.late = True
        self._process.kill()


def _tail(printed: IO[bytes]) -> str:
    size = printed.seek(0, os.SEEK_END)
    printed.seek(max(0, size - _LOGGED))
    return printed.read().decode("utf-8", "replace").strip()
