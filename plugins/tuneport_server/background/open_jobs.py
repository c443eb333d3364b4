"""What the server remembers of jobs that are not over, and how a job ends."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tuneport_server.store import Row, Store
from tuneport_server.vault import Vault

_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 300.0


@dataclass(slots=True)
class Retries:
    """When a job may be tried again: after 1 s, 2 s, 4 s and so on, at most 5 minutes apart."""

    failed: int = 0
    not_before: float = 0.0

    def postpone(self) -> int:
        """Count a failed try, and delay the next one. Returns how many tries have failed."""
        self.failed += 1
        delay = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(self.failed - 1, 20))
        self.not_before = time.monotonic() + delay
        return self.failed

    @property
    def is_waiting(self) -> bool:
        """May the job not be tried yet?"""
        return time.monotonic() < self.not_before


@dataclass(slots=True)
class Resumes:
    """How often an interrupted training was resumed without a step in between."""

    step: int = -1
    times: int = 0
    last: float = 0.0


@dataclass(slots=True)
class OpenJob:
    """What is remembered of one job, in memory only. Code that changes the job's status holds `lock`."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    starts: Retries = field(default_factory=Retries)
    killed_checks: int = 0
    resumes: Resumes = field(default_factory=Resumes)
    next_search: float = 0.0  # when to look again for a training that may not have been started
    estimated_finish: int | None = None  # in seconds since 1970
    logged_error: str = ""


class OpenJobs:
    """The jobs that are not over, one record each."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store, self._vault = store, vault
        self._records: dict[str, OpenJob] = {}

    def record(self, id_: str) -> OpenJob:
        """Return the record of a job."""
        return self._records.setdefault(id_, OpenJob())

    def forget(self, id_: str) -> None:
        """Forget a job that is over."""
        self._records.pop(id_, None)

    def postponed(self) -> list[str]:
        """Return the ids of the jobs whose next start must wait."""
        return [id_ for id_, one in list(self._records.items()) if one.starts.is_waiting]

    def retry_now(self, id_: str) -> None:
        """Start and resume a job at once, and count its failures from zero."""
        record = self.record(id_)
        record.starts, record.resumes, record.killed_checks = Retries(), Resumes(), 0

    def estimated_finish(self, id_: str) -> int | None:
        """Return when a running job is expected to end, in seconds since 1970."""
        record = self._records.get(id_)
        return record.estimated_finish if record else None

    def end(self, row: Row, status: str, **values: Any) -> None:
        """End a job with that status."""
        self._store.jobs.update(row["id"], **{"finished": int(time.time()), **values}, status=status, over=1)
        self.forget(row["id"])
        self._vault.release_inputs()

    def fail(self, id_: str, code: str, message: str, param: str | None = None) -> None:
        """End a job that is not over: as canceled if its owner asked for that, else as failed."""
        with self.record(id_).lock, self._store.transaction():
            row = self._store.jobs.get(id_)
            if row is None or row["over"]:
                return
            if row["want"] == "cancel":
                self.end(row, "cancelled")
                return
            self._store.jobs.add_event(id_, message, "error")
            self.end(row, "failed", error=json.dumps({"code": code, "message": message, "param": param}))

    def report_once(self, id_: str, message: str, level: str = "info") -> None:
        """Add an event, unless an earlier start that was interrupted has added it."""
        with self._store.transaction():
            if not self._store.jobs.has_event(id_, message):
                self._store.jobs.add_event(id_, message, level)
