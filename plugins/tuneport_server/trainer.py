"""Carries accepted jobs to their ends: starts them, follows them, and resumes what a crash has interrupted."""

from __future__ import annotations

import json
import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import tuneport
from tuneport import HomeError, Job, JobNotFinished, JobNotFound, JobState, Status, TuneportError
from tuneport_server import files, uploads
from tuneport_server.events import result_csv
from tuneport_server.faults import Retries, passes, reason
from tuneport_server.starting import BadFile, start

if TYPE_CHECKING:
    from tuneport_server.server import Server
    from tuneport_server.store import Row

_POLL_SECONDS = 1.0
_DOUBT_SECONDS = 30.0  # between two looks for a training of which nobody knows whether it was started
_RESUMES = (0.0, 5.0, 30.0)  # seconds before each resume of an interrupted training that makes no step in between
_STARTS = 2  # jobs whose files are checked at the same time
_DRAIN_SECONDS = 10.0
_SWEEP_SECONDS = 10.0

_log = logging.getLogger("tuneport.server")

WIRE_STATUS = {
    Status.QUEUED: "queued",
    Status.PREPARING: "running",
    Status.RUNNING: "running",
    Status.PAUSING: "pausing",
    Status.PAUSED: "paused",
    Status.INTERRUPTED: "running",  # and is being resumed
    Status.UNCONFIRMED: "queued",
    Status.UNKNOWN: "running",
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELLED: "cancelled",
}


class Trainer:
    """A thread that looks at every job that is not over. The trainings themselves run wherever their backend runs them.

    What is to happen stands in the store before it is done: `want` is "cancel", "pause" or nothing, `begun` says that a
    backend may have been asked to start it. Killed at any point, the next one goes on from there; a start is repeated
    safely, because a job's suffix is its own, and so finds the training that is to be cancelled or paused.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trainer", daemon=True)
        self._starting: dict[str, str] = {}  # jobs, and whose they are
        self._starts: dict[str, threading.Thread] = {}  # the same jobs
        self._left = False  # the starts that still run are given up: the next server repeats them
        self._swept = 0.0
        self._locks: dict[str, threading.RLock] = {}
        self._told: dict[str, str] = {}
        self._resumed: dict[str, tuple[int, int, float]] = {}
        self._retries = Retries()
        self._looked: dict[str, float] = {}
        self._estimates: dict[str, int] = {}

    def start(self) -> None:
        """Begin to work; everything that was accepted before is looked at first."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being started, as far as that takes no longer than _DRAIN_SECONDS, and leave the trainings to
        their backends. A file of many rows takes longer to check.
        """
        deadline = time.monotonic() + _DRAIN_SECONDS
        self._stopping.set()
        self._wake.set()
        for one in (self._thread, *list(self._starts.values())):
            one.join(max(0.0, deadline - time.monotonic()))
        self._left = True

    def wake(self) -> None:
        """There is something new to look at."""
        self._wake.set()

    def estimate(self, id_: str) -> int | None:
        """When a running job is expected to end, in seconds since 1970."""
        return self._estimates.get(id_)

    def look(self, id_: str) -> None:
        """Do now what is to be done for one job, and bring its row up to date."""
        with self._lock(id_):
            row = self._server.store.row("SELECT * FROM jobs WHERE id = ?", id_)
            if row is None or row["over"] or id_ in self._starting:
                return
            if row["ref"] is not None:
                self._follow(row)
            elif row["begun"] or not row["want"]:
                self._submit(row)
            elif row["want"] == "cancel":
                self._tell_once(id_, "The job was cancelled.")
                self._over(row, "cancelled")

    def resume(self, id_: str) -> None:
        """Go on with a paused job, or one whose own resumption was given up."""
        with self._lock(id_):
            self._resumed.pop(id_, None)
            self._retries.forget(id_)
            self._server.store.update("jobs", id_, want="")
            row = self._server.store.row("SELECT * FROM jobs WHERE id = ?", id_)
            if row is not None and row["ref"] is not None:
                tuneport.open_job(tuneport.Ref.parse(row["ref"])).resume()
            else:
                self._server.store.update("jobs", id_, status="validating_files")
        self.look(id_)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                waiting = self._server.store.rows("SELECT id FROM jobs WHERE over = 0 ORDER BY n")
            except HomeError as error:
                _log.error("%s", error)
                waiting = []
            for row in waiting:
                if self._stopping.is_set():
                    return
                try:
                    self.look(row["id"])
                except Exception as error:  # noqa: BLE001 - one job's trouble must not keep the others waiting
                    if self._told.get(row["id"]) != str(error):  # it will be the same a second later
                        self._told[row["id"]] = str(error)
                        known = isinstance(error, TuneportError)
                        _log.error("%s could not be looked at: %s", row["id"], error, exc_info=None if known else error)
            self._sweep()
            self._wake.wait(_POLL_SECONDS)

    def _sweep(self) -> None:
        """Remove from time to time what has expired."""
        if time.monotonic() < self._swept + _SWEEP_SECONDS:
            return
        self._swept = time.monotonic()
        try:
            files.drop_expired(self._server)
            uploads.drop_expired(self._server)
        except (TuneportError, OSError):
            _log.exception("What has expired could not be removed")

    def _lock(self, id_: str) -> threading.RLock:
        return self._locks.setdefault(id_, threading.RLock())

    def _submit(self, row: Row) -> None:
        """Start a job once its files are checked. One token has one start under way at most; the rest is for others."""
        id_ = row["id"]
        if not self._retries.due(id_) or self._stopping.is_set():
            return
        if row["owner"] in self._starting.values() or len(self._starting) >= _STARTS:
            return
        for param in ("training_file", "validation_file"):
            file = self._server.store.row("SELECT * FROM files WHERE id = ?", row[param])
            if file is not None and file["status"] == "uploaded":
                return
            if file is not None and file["refused"] and not row["begun"]:
                self._fail(id_, f"invalid_{param}", file["details"], param)
                return
        self._starting[id_] = row["owner"]
        # A daemon, since a process waits for all other threads before it ends.
        self._starts[id_] = threading.Thread(target=self._begin, args=(id_,), name=f"start {id_}", daemon=True)
        self._starts[id_].start()

    def _begin(self, id_: str) -> None:
        try:
            self._try_to_start(id_)
        except Exception:  # noqa: BLE001 - the next look tries again, and so does the next server
            if not self._left:  # afterwards, the store is closed
                _log.exception("%s could not be started", id_)
        finally:
            self._starting.pop(id_, None)
            self._starts.pop(id_, None)
            if not self._left:
                files.release_inputs(self._server)
            self._wake.set()

    def _try_to_start(self, id_: str) -> None:
        store = self._server.store
        try:
            with store.write():
                row = store.row("SELECT * FROM jobs WHERE id = ?", id_)
                if row is None or row["over"] or row["ref"] is not None or (row["want"] and not row["begun"]):
                    return
                store.update("jobs", id_, begun=1)
            self._tell_once(id_, f"Validating training file: {row['training_file']}")
            started = start(row, partial(files.link_of, self._server, id_))
            with store.write():
                store.update("jobs", id_, ref=str(started.ref))
                if row["status"] == "validating_files":
                    store.update("jobs", id_, status="queued")
                self._tell_once(id_, "Files validated, the training is submitted.")
        except BadFile as error:
            self._fail(id_, f"invalid_{error.param}", str(error), error.param)
        except JobNotFinished as error:  # it may have been started, and is paid for then: it is looked for from now on
            _log.warning("%s: %s", id_, error.message)
            store.update("jobs", id_, ref=error.ref, status="queued")
        except Exception as error:  # noqa: BLE001 - whatever it is, the job waits for another try or is told why it ends
            if self._left:
                return
            self._not_started(id_, error)

    def _not_started(self, id_: str, error: Exception) -> None:
        """Try again later what may pass, and end the job for what does not."""
        known = isinstance(error, TuneportError)
        _log.error("%s could not be started: %s", id_, error, exc_info=None if known else error)
        if passes(error, self._retries.postpone(id_)):
            try:
                self._tell_once(id_, f"Not started yet, and tried again: {reason(error)}", "warn")
            except HomeError as full:  # the store has no room either: the job is tried again all the same
                _log.error("%s", full)
        elif isinstance(error, TuneportError):
            self._fail(id_, "training_not_started", error.message)
        else:
            self._fail(id_, "server_error", "The server could not start the training; its log says why.")

    def _follow(self, row: Row) -> None:
        id_ = row["id"]
        try:
            job = tuneport.open_job(tuneport.Ref.parse(row["ref"]))
            state = self._obeyed(row, job)
        except JobNotFound:
            self._fail(id_, "job_removed", "The training was removed from the machine.")
            return
        if state is None:
            return
        if not tuneport.open_backend(job.ref.backend).capabilities.local:
            tuneport.deliver_events(job)  # nobody else polls it
        if state.status.terminal:
            self._settle(row, job, state)
            return
        if state.seconds_left is None:
            self._estimates.pop(id_, None)
        else:
            self._estimates[id_] = int(time.time() + state.seconds_left)
        status = WIRE_STATUS[state.status]
        if state.status is Status.INTERRUPTED and not self._revive(row, job, state):
            status = "paused"
        if status != row["status"]:
            self._server.store.update("jobs", id_, status=status)

    def _obeyed(self, row: Row, job: Job) -> JobState | None:
        """The state of a job once what is wanted of it was asked; None where it turns out that it was never started."""
        state = job.state()
        if state.status is Status.UNCONFIRMED:
            return self._looked_for(row, state)
        if row["want"] == "cancel" and not state.status.terminal:
            job.cancel()
        elif row["want"] == "pause" and state.status in (Status.QUEUED, Status.PREPARING, Status.RUNNING):
            job.pause()
        else:
            return state
        return job.state()

    def _looked_for(self, row: Row, state: JobState) -> JobState | None:
        """The state of a job whose start is in doubt, once it was looked for; None where it was certainly not made."""
        if time.monotonic() < self._looked.get(row["id"], 0.0):
            return state
        self._looked[row["id"]] = time.monotonic() + _DOUBT_SECONDS
        try:
            return tuneport.settle(tuneport.Ref.parse(row["ref"])).state()
        except JobNotFinished:
            return state
        except JobNotFound as error:
            self._fail(row["id"], "training_not_started", error.message)
            return None

    def _revive(self, row: Row, job: Job, state: JobState) -> bool:
        """Resume a training that nothing runs, each time after a longer wait; False once that has helped nothing
        several times.
        """
        if row["want"] == "pause":
            return False
        now = time.monotonic()
        step, times, last = self._resumed.get(row["id"], (-1, 0, now))
        times = times if state.step <= step else 0
        if times >= len(_RESUMES):
            return False
        if now - last < _RESUMES[times]:
            return True
        self._resumed[row["id"]] = (state.step, times + 1, now)
        try:
            job.resume()
        except TuneportError as error:
            _log.warning("%s could not be resumed: %s", row["id"], error.message)
        return True

    def _settle(self, row: Row, job: Job, state: JobState) -> None:
        values: dict[str, Any] = {"tokens": state.tokens or None}
        if state.finished is not None:
            values["finished"] = int(state.finished.timestamp())
        if state.status is Status.SUCCEEDED:
            values["result_file"] = files.add_result(self._server, row["owner"], row["id"], result_csv(job))
        if state.status is Status.FAILED:
            message = state.message or "The training failed."
            values["error"] = json.dumps({"code": "training_failed", "message": message, "param": None})
        self._over(row, WIRE_STATUS[state.status], **values)

    def _over(self, row: Row, status: str, **values: Any) -> None:
        self._server.store.update("jobs", row["id"], **{"finished": int(time.time()), **values}, status=status, over=1)
        self._estimates.pop(row["id"], None)
        self._resumed.pop(row["id"], None)
        self._told.pop(row["id"], None)
        self._retries.forget(row["id"])
        self._looked.pop(row["id"], None)
        files.release_inputs(self._server)

    def _fail(self, id_: str, code: str, message: str, param: str | None = None) -> None:
        store = self._server.store
        with self._lock(id_), store.write():
            row = store.row("SELECT * FROM jobs WHERE id = ? AND over = 0", id_)
            if row is None:
                return
            if row["want"] == "cancel":
                self._over(row, "cancelled")
                return
            store.add_event(id_, message, "error")
            self._over(row, "failed", error=json.dumps({"code": code, "message": message, "param": param}))

    def _tell_once(self, id_: str, message: str, level: str = "info") -> None:
        """An event, unless a start that was cut off has told it already."""
        store = self._server.store
        with store.write():
            if not any(event["message"] == message for event in store.events(id_, 0)):
                store.add_event(id_, message, level)
