"""Checks each uploaded file once, in a process of its own, and keeps the result: a view computes nothing."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport import HomeError
from tuneport_server import files
from tuneport_server.checking import TRY_AGAIN, Bounds

if TYPE_CHECKING:
    from tuneport_server.server import Server
    from tuneport_server.store import Row

_POLL_SECONDS = 5.0
_RETRY_SECONDS = 30.0
_TRIES = 3  # of a check that is killed from outside
_STOP_SECONDS = 30.0
_UNCHECKED = "status = 'uploaded' AND id IN (SELECT id FROM present UNION SELECT file FROM held)"
_OLDEST = (  # of each token, but for the files that are named
    f"SELECT id, owner, min(n) AS n FROM files WHERE {_UNCHECKED}"  # noqa: S608 - words of our own
    " AND id NOT IN (SELECT value FROM json_each(?)) GROUP BY owner"
)

_log = logging.getLogger("tuneport.server")


class Checks:
    """A few threads, each with a process that checks a file. One token has all but one of them at most.

    A file without a result is checked, also after a kill at any time: the store says which those are.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._stopping = False
        self._news = 0  # how often somebody said that there is something new
        self._running: dict[str, str] = {}  # files, and whose they are
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._turns: dict[str, int] = {}  # of each token, the number of the check that it had last
        self._killed: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._run, name=f"check {number}", daemon=True)
            for number in range(server.limits.checks)
        ]

    def start(self) -> None:
        """Begin; what a killed server left unchecked is found first."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the checks that are under way; the next server makes them again."""
        with self._lock:
            self._stopping = True
            for process in self._processes.values():
                process.kill()
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)

    def wake(self) -> None:
        """There is a new file."""
        with self._lock:
            self._news += 1
            self._wake.notify_all()

    def forget(self, id_: str) -> None:
        """The file was deleted: end its check, unless a job has the bytes still."""
        if self._server.store.row("SELECT 1 FROM held WHERE file = ?", id_) is None:
            with self._lock:
                if (process := self._processes.get(id_)) is not None:
                    process.kill()

    def result(self, id_: str) -> dict[str, Any] | None:
        """What `checking.check` has found in a file; None until it is known."""
        row = self._server.store.row("SELECT result FROM checks WHERE file = ?", id_)
        return None if row is None else json.loads(row["result"])

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._stopping:
                    return
                news = self._news
            try:
                row = self._next()
                if row is not None:
                    self._check(row)
                    continue
            except HomeError as error:
                _log.error("%s", error)
            except Exception:  # noqa: BLE001 - one file's trouble must not end the checks of the others
                _log.exception("A file could not be checked")
            with self._lock:
                if not self._stopping and news == self._news:
                    self._wake.wait(_POLL_SECONDS)

    def _next(self) -> Row | None:
        """The file to check next: the oldest of the token that had its turn longest ago."""
        with self._lock:
            now = time.monotonic()
            self._not_before = {id_: then for id_, then in self._not_before.items() if now < then}
            passed = [*self._running, *self._not_before]
        waiting = self._server.store.rows(_OLDEST, json.dumps(passed))
        with self._lock:
            share, busy = max(1, len(self._threads) - 1), Counter(self._running.values())
            ready = [row for row in waiting if row["id"] not in self._running and busy[row["owner"]] < share]
            if not ready:
                return None
            row = min(ready, key=lambda one: (self._turns.get(one["owner"], 0), one["n"]))
            self._turns[row["owner"]] = max(self._turns.values(), default=0) + 1
            self._running[row["id"]] = row["owner"]
            return row

    def _check(self, row: Row) -> None:
        id_ = row["id"]
        try:
            with files.borrowed(self._server, id_) as path:
                result = self._outcome(id_, path)
            if result is not None:
                self._keep(id_, result)
        except FileNotFoundError:
            self._not_before[id_] = time.monotonic() + _RETRY_SECONDS  # deleted just now: it will not come back
        finally:
            with self._lock:
                self._running.pop(id_, None)
                self._processes.pop(id_, None)

    def _outcome(self, id_: str, path: Path) -> dict[str, Any] | None:
        """What the process says; None where the file should be checked again later."""
        limits = self._server.limits
        bounds = Bounds(limits.expanded_bytes, limits.file_rows, limits.check_seconds, limits.check_memory)
        words = [str(path), str(os.getpid()), *map(str, bounds)]
        command = [sys.executable, "-P", "-m", "tuneport_server.checking", *words]
        with self._lock:
            if self._stopping:
                return None
            process = self._processes[id_] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        late = False
        try:
            said, wrong = process.communicate(timeout=limits.check_seconds)
        except subprocess.TimeoutExpired:
            late = True
            process.kill()
            process.communicate()
        if self._stopping or not self._wanted(id_):
            return None
        if late:
            return _refusal(f"The check of the file takes more than {limits.check_seconds:,} seconds.")
        if process.returncode == 0:
            with contextlib.suppress(ValueError):
                return dict(json.loads(said))
        return self._failed(id_, process.returncode, wrong.decode("utf-8", "replace")[-1000:].strip())

    def _wanted(self, id_: str) -> bool:
        statement = f"SELECT 1 FROM files WHERE id = ? AND {_UNCHECKED}"  # noqa: S608 - words of our own
        return self._server.store.row(statement, id_) is not None

    def _failed(self, id_: str, code: int, wrong: str) -> dict[str, Any] | None:
        """What becomes of a file whose check ended without a result."""
        _log.warning("The check of %s ended with %d: %s", id_, code, wrong)
        self._not_before[id_] = time.monotonic() + _RETRY_SECONDS
        if code == TRY_AGAIN:
            return None
        self._killed[id_] += 1
        if self._killed[id_] < _TRIES:
            return None
        return _refusal(f"The check of the file ended {_TRIES} times without a result.")

    def _keep(self, id_: str, result: dict[str, Any]) -> None:
        details = result["details"]
        with self._server.store.write() as sql:
            sql.execute("INSERT OR REPLACE INTO checks VALUES (?, ?)", (id_, json.dumps(result)))
            values = {"status": "processed" if details is None else "error", "details": details}
            self._server.store.update("files", id_, **values, refused=int(result["refused"]))
        self._killed.pop(id_, None)
        self._not_before.pop(id_, None)
        self._server.trainer.wake()


def _refusal(why: str) -> dict[str, Any]:
    return {"refused": True, "details": why}
