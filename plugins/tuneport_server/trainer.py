"""Carries accepted jobs to their ends: follows those that are started, and resumes what a crash has interrupted."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import tuneport
import tuneport.plugin
from tuneport.errors import HomeError, JobNotFinished, JobNotFound, TuneportError
from tuneport.plugin import Job, JobState, Status
from tuneport_server import files, uploads
from tuneport_server.events import result_csv

if TYPE_CHECKING:
    from tuneport_server.server import Server
    from tuneport_server.store import Row

_POLL_SECONDS = 1.0
_DOUBT_SECONDS = 30.0  # between two looks for a training of which nobody knows whether it was started
_RESUMES = (0.0, 5.0, 30.0)  # seconds before each resume of an interrupted training that makes no step in between
_STOP_SECONDS = 10.0
_SWEEP_SECONDS = 10.0

_log = logging.getLogger("tuneport.server")

WIRE_STATUS = {
    Status.QUEUED: "queued",
    Status.PREPARING: "running",
    Status.RUNNING: "running",
    Status.PAUSING: "pausing",
    Status.CANCELLING: "running",  # the wire has no such status
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
    backend may have been asked to start it. Killed at any point, the next one goes on from there. `Starts` starts
    jobs, and starts again what may be started and is to be cancelled or paused: that finds the training.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trainer", daemon=True)
        self._swept = 0.0
        self._locks: dict[str, threading.RLock] = {}
        self._told: dict[str, str] = {}
        self._resumed: dict[str, tuple[int, int, float]] = {}
        self._looked: dict[str, float] = {}
        self._estimates: dict[str, int] = {}

    def start(self) -> None:
        """Begin to work; everything that was accepted before is looked at first."""
        self._thread.start()

    def stop(self) -> None:
        """Leave the trainings to their backends."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(_STOP_SECONDS)

    def wake(self) -> None:
        """There is something new to look at, or to start."""
        self._wake.set()
        self._server.starts.wake()

    def estimate(self, id_: str) -> int | None:
        """When a running job is expected to end, in seconds since 1970."""
        return self._estimates.get(id_)

    def look(self, id_: str) -> None:
        """Do now what is to be done for one job, and bring its row up to date."""
        with self._lock(id_):
            row = self._server.store.row("SELECT * FROM jobs WHERE id = ?", id_)
            if row is None or row["over"]:
                return
            if row["ref"] is not None:
                self._follow(row)
            elif row["want"] and not row["begun"]:
                self._server.starts.cancel(id_)
                if row["want"] == "cancel":
                    self.tell_once(id_, "The job was cancelled.")
                    self._over(row, "cancelled")

    def resume(self, id_: str) -> None:
        """Go on with a paused job, or one whose own resumption was given up."""
        with self._lock(id_):
            self._resumed.pop(id_, None)
            self._server.starts.forget(id_)
            self._server.store.update("jobs", id_, want="")
            row = self._server.store.row("SELECT * FROM jobs WHERE id = ?", id_)
            if row is not None and row["ref"] is not None:
                tuneport.open_job(tuneport.Ref.parse(row["ref"])).resume()
            else:
                self._server.store.update("jobs", id_, status="validating_files")
        self.look(id_)
        self._server.starts.wake()

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

    def _follow(self, row: Row) -> None:
        id_ = row["id"]
        try:
            job = tuneport.open_job(tuneport.Ref.parse(row["ref"]))
            state = self._obeyed(row, job)
        except JobNotFound:
            self.fail(id_, "job_removed", "The training was removed from the machine.")
            return
        if state is None:
            return
        if job.notebook is not None and not job.delivers_events:
            job.notebook.deliver(job)  # nobody else polls it
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
            self.fail(row["id"], "training_not_started", error.message)
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
        self._server.starts.forget(row["id"])
        self._looked.pop(row["id"], None)
        files.release_inputs(self._server)

    def fail(self, id_: str, code: str, message: str, param: str | None = None) -> None:
        """End a job that is not over, as failed, or as cancelled where that was asked for."""
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

    def tell_once(self, id_: str, message: str, level: str = "info") -> None:
        """An event, unless a start that was cut off has told it already."""
        store = self._server.store
        with store.write():
            if not any(event["message"] == message for event in store.events(id_, 0)):
                store.add_event(id_, message, level)
