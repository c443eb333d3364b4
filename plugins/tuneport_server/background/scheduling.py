"""Fair scheduling of work in processes: owners take turns, and none uses all of the threads."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import IO

from tuneport.errors import HomeError
from tuneport.plugin import home
from tuneport_server.store import Row

_log = logging.getLogger("tuneport.server")


class FairQueue(ABC):
    """A few threads that do the work which the store lists, each in a process. One owner gets at most all threads but
    one.

    The store lists what is left to do, so that a new server continues after a kill at any time.
    """

    def __init__(self, name: str, threads: int, poll_seconds: float) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._poll_seconds = poll_seconds
        self._stopping = False
        self._news = 0  # how often `wake` was called
        self._running: dict[str, str] = {}  # id of the work in progress → its owner
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._turns: dict[str, int] = {}  # owner → the number of its latest turn
        self._not_before: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._run, name=f"{name} {number}", daemon=True) for number in range(threads)
        ]

    @abstractmethod
    def _waiting(self, passed: Sequence[str]) -> list[Row]:
        """Return the oldest work of each owner (`id`, `owner`, `n`), except for the ids in `passed`."""

    @abstractmethod
    def _do(self, row: Row) -> None:
        """Do one piece of work."""

    def start(self) -> None:
        """Start the threads. They find what a killed server left undone."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Look for work now."""
        with self._lock:
            self._news += 1
            self._wake.notify_all()

    def _end(self, seconds: float) -> None:
        """Start no more processes, and wait up to `seconds` for the threads."""
        with self._lock:
            self._stopping = True
            self._wake.notify_all()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _kill(self, *ids: str) -> None:
        with self._lock:
            for id_ in ids:
                if (process := self._processes.get(id_)) is not None:
                    process.kill()

    def _postpone(self, id_: str, seconds: float) -> None:
        with self._lock:
            self._not_before[id_] = time.monotonic() + seconds

    def _launch(
        self, id_: str, command: Sequence[str], stdin: int, stderr: int | IO[bytes], keep: Sequence[int] = ()
    ) -> subprocess.Popen[bytes] | None:
        """Start a process that runs a module of ours; None while the server shuts down. It inherits the descriptors in
        `keep`.
        """
        with self._lock:
            if self._stopping:
                return None
            process = self._processes[id_] = subprocess.Popen(
                [sys.executable, "-P", "-m", *command],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=keep,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TUNEPORT_HOME": str(home())},
            )
            return process

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._stopping:
                    return
                news = self._news
            try:
                row = self._next()
                if row is not None:
                    self._take_turn(row)
                    continue
            except (HomeError, OSError) as error:  # these may pass: no descriptor, no memory, a full disk
                _log.error("%s: %s", threading.current_thread().name, error)
            except Exception:  # noqa: BLE001 - trouble with one piece of work must not stop the others
                if self._stopping:  # the store is closed by now
                    return
                _log.exception("%s: one piece of work failed", threading.current_thread().name)
            with self._lock:
                if not self._stopping and news == self._news:
                    self._wake.wait(self._poll_seconds)

    def _take_turn(self, row: Row) -> None:
        try:
            self._do(row)
        finally:
            with self._lock:
                self._running.pop(row["id"], None)
                self._processes.pop(row["id"], None)
                self._count_turn(row["owner"])  # it had its turn until now: others have waited longer

    def _next(self) -> Row | None:
        """Return what to do next: the oldest work of the owner whose latest turn is longest ago."""
        with self._lock:
            now = time.monotonic()
            self._not_before = {id_: then for id_, then in self._not_before.items() if now < then}
            passed = [*self._running, *self._not_before]
        waiting = self._waiting(passed)
        with self._lock:
            share, busy = max(1, len(self._threads) - 1), Counter(self._running.values())
            ready = [row for row in waiting if row["id"] not in self._running and busy[row["owner"]] < share]
            if not ready or self._stopping:
                return None
            row = min(ready, key=lambda one: (self._turns.get(one["owner"], 0), one["n"]))
            self._count_turn(row["owner"])
            self._running[row["id"]] = row["owner"]
            return row

    def _count_turn(self, owner: str) -> None:
        self._turns[owner] = max(self._turns.values(), default=0) + 1
