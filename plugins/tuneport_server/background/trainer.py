"""Follows jobs to their end: takes over the state of their trainings, and resumes those that a crash interrupted."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any

import tuneport
from tuneport.errors import HomeError, JobNotFinished, JobNotFound, TuneportError
from tuneport.plugin import Job, JobState, Ref, Status
from tuneport_server.background.events import result_csv
from tuneport_server.background.file_checks import FileChecks
from tuneport_server.background.job_starts import JobStarts
from tuneport_server.background.open_jobs import OpenJobs, Resumes
from tuneport_server.store import Row, Store
from tuneport_server.vault import Vault

_POLL_SECONDS = 1.0
_SEARCH_SECONDS = 30.0  # between two searches for a training that may or may not have been started
_RESUMES = (0.0, 5.0, 30.0)  # seconds before each resume of an interrupted training that makes no step in between
_STOP_SECONDS = 10.0
_CLEAN_SECONDS = 10.0

_log = logging.getLogger("tuneport.server")

WIRE_STATUS = {
    Status.QUEUED: "queued",
    Status.PREPARING: "running",
    Status.RUNNING: "running",
    Status.PAUSING: "pausing",
    Status.CANCELLING: "running",  # the wire has no such status
    Status.PAUSED: "paused",
    Status.INTERRUPTED: "running",  # the trainer resumes it
    Status.UNCONFIRMED: "queued",
    Status.UNKNOWN: "running",
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELLED: "cancelled",
}


class Trainer:
    """A thread that looks at every job that is not over. The trainings themselves run where their backend runs them.

    What should happen is stored before it is done: `want` is "cancel", "pause" or empty, and `started` says that a
    backend may have been asked to start the job. If the server is killed, the next one continues from there.
    `JobStarts` starts jobs. It also repeats a start that was interrupted, even if the job is to be canceled or paused,
    because that finds the training.
    """

    def __init__(
        self, store: Store, vault: Vault, jobs: OpenJobs, starts: JobStarts, checks: FileChecks, news: threading.Event
    ) -> None:
        self._store, self._vault = store, vault
        self._jobs, self._starts, self._checks = jobs, starts, checks
        self._news = news
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trainer", daemon=True)
        self._cleaned = 0.0

    def start(self) -> None:
        """Start the threads. They look first at what was accepted before."""
        self._checks.start()
        self._starts.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop the threads. The trainings go on."""
        self._checks.stop()
        self._starts.stop()
        self._stopping.set()
        self._news.set()
        self._thread.join(_STOP_SECONDS)

    def wake(self) -> None:
        """Look at the jobs now, because something has changed."""
        self._news.set()
        self._starts.wake()

    def estimated_finish(self, id_: str) -> int | None:
        """Return when a running job is expected to end, in seconds since 1970."""
        return self._jobs.estimated_finish(id_)

    def look(self, id_: str) -> None:
        """Do now what one job needs, and update its row."""
        with self._jobs.record(id_).lock:
            row = self._store.jobs.get(id_)
            if row is None or row["over"]:
                self._jobs.forget(id_)
            elif row["ref"] is not None:
                self._follow(row)
            elif row["want"] and not row["started"]:
                self._starts.cancel(id_)
                if row["want"] == "cancel":
                    self._jobs.report_once(id_, "The job was canceled.")
                    self._jobs.end(row, "cancelled")

    def resume(self, id_: str) -> None:
        """Resume a job that is paused, or that is no longer resumed by itself."""
        with self._jobs.record(id_).lock:
            self._jobs.retry_now(id_)
            self._store.jobs.update(id_, want="")
            row = self._store.jobs.get(id_)
            if row is not None and row["ref"] is not None:
                tuneport.open_job(Ref.parse(row["ref"])).resume()
            else:
                self._store.jobs.update(id_, status="validating_files")
        self.look(id_)
        self._starts.wake()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._news.clear()
            for id_ in self._open_ids():
                if self._stopping.is_set():
                    return
                self._look_safely(id_)
            self._clean()
            self._news.wait(_POLL_SECONDS)

    def _open_ids(self) -> list[str]:
        try:
            return self._store.jobs.open_ids()
        except HomeError as error:
            _log.error("%s", error)
            return []

    def _look_safely(self, id_: str) -> None:
        try:
            self.look(id_)
        except Exception as error:  # noqa: BLE001 - trouble with one job must not stop the others
            record = self._jobs.record(id_)
            if record.logged_error != str(error):  # it repeats every second
                record.logged_error = str(error)
                known = isinstance(error, TuneportError)
                _log.error("%s could not be followed: %s", id_, error, exc_info=None if known else error)

    def _clean(self) -> None:
        """Remove what has expired, from time to time."""
        if time.monotonic() < self._cleaned + _CLEAN_SECONDS:
            return
        self._cleaned = time.monotonic()
        try:
            for file in self._vault.drop_expired():
                self._checks.forget(file)
        except (TuneportError, OSError):
            _log.exception("Expired files could not be removed")

    def _follow(self, row: Row) -> None:
        id_ = row["id"]
        try:
            job = tuneport.open_job(Ref.parse(row["ref"]))
            state = self._apply(row, job)
        except JobNotFound:
            self._jobs.fail(id_, "job_removed", "The training was removed from the machine.")
            return
        if state is None:
            return
        if job.notebook is not None and not job.delivers_events:
            job.notebook.deliver(job)  # nothing else polls it
        if state.status.terminal:
            self._conclude(row, job, state)
            return
        left = state.seconds_left
        self._jobs.record(id_).estimated_finish = None if left is None else int(time.time() + left)
        status = WIRE_STATUS[state.status]
        if state.status is Status.INTERRUPTED and not self._revive(row, job, state):
            status = "paused"
        if status != row["status"]:
            self._store.jobs.update(id_, status=status)

    def _apply(self, row: Row, job: Job) -> JobState | None:
        """Cancel or pause a job if its owner wants that. Returns its state; None if it was never started."""
        state = job.state()
        if state.status is Status.UNCONFIRMED:
            return self._search(row, state)
        if row["want"] == "cancel" and not state.status.terminal:
            if state.status is not Status.CANCELLING:
                job.cancel()
        elif row["want"] == "pause" and state.status in (Status.QUEUED, Status.PREPARING, Status.RUNNING):
            job.pause()
        else:
            return state
        return job.state()

    def _search(self, row: Row, state: JobState) -> JobState | None:
        """Search for a training that may or may not have been started. Returns its state; None if it was not."""
        record = self._jobs.record(row["id"])
        if time.monotonic() < record.next_search:
            return state
        record.next_search = time.monotonic() + _SEARCH_SECONDS
        try:
            return tuneport.settle(Ref.parse(row["ref"])).state()
        except JobNotFinished:
            return state
        except JobNotFound as error:
            self._jobs.fail(row["id"], "training_not_started", error.message)
            return None

    def _revive(self, row: Row, job: Job, state: JobState) -> bool:
        """Resume an interrupted training, each time after a longer delay. Returns False once several resumes in a row
        have made no step.
        """
        if row["want"] == "pause":
            return False
        now, record = time.monotonic(), self._jobs.record(row["id"])
        done = record.resumes
        times = done.times if state.step <= done.step else 0
        if times >= len(_RESUMES):
            return False
        if times and now - done.last < _RESUMES[times]:
            return True
        record.resumes = Resumes(state.step, times + 1, now)
        try:
            job.resume()
        except TuneportError as error:
            _log.warning("%s could not be resumed: %s", row["id"], error.message)
        return True

    def _conclude(self, row: Row, job: Job, state: JobState) -> None:
        values: dict[str, Any] = {"tokens": state.tokens or None}
        if state.finished is not None:
            values["finished"] = int(state.finished.timestamp())
        if state.status is Status.SUCCEEDED:
            values["result_file"] = self._vault.add_result(row["owner"], row["id"], result_csv(job))
        if state.status is Status.FAILED:
            message = state.message or "The training failed."
            values["error"] = json.dumps({"code": "training_failed", "message": message, "param": None})
        self._jobs.end(row, WIRE_STATUS[state.status], **values)
