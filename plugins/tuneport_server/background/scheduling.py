"""A few threads, each with one process of its own: tokens take turns, and none has all of the threads."""

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
from typing import IO, TYPE_CHECKING

from tuneport.errors import HomeError
from tuneport.plugin import home

if TYPE_CHECKING:
    from tuneport_server.store import Row

_log = logging.getLogger("tuneport.server")


class Turns(ABC):
    """Does pieces of work that the store names, each in a process. One token has all but one of the threads at most.

    The store says what is left to do, so that a server that was killed at any time goes on.
    """

    def __init__(self, name: str, threads: int, poll_seconds: float) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._poll_seconds = poll_seconds
        self._stopping = False
        self._news = 0  # how often somebody said that there is something new
        self._running: dict[str, str] = {}  # what is done now, and whose it is
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._turns: dict[str, int] = {}  # of each token, the number of the turn that it had last
        self._not_before: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._run, name=f"{name} {number}", daemon=True) for number in range(threads)
        ]

    @abstractmethod
    def _waiting(self, passed: Sequence[str]) -> list[Row]:
        """The oldest piece of each token (`id`, `owner`, `n`), but for the ids that are passed over."""

    @abstractmethod
    def _do(self, row: Row) -> None:
        """Do one piece."""

    def start(self) -> None:
        """Begin; what a killed server left undone is found first."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There is something new."""
        with self._lock:
            self._news += 1
            self._wake.notify_all()

    def _end(self, seconds: float) -> None:
        """Start no more processes, and wait so long for the threads."""
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
        """A process that runs a module of ours; None while the server shuts down. `keep` is passed on open."""
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
            except (HomeError, OSError) as error:  # what passes: no descriptor, no memory, a full disk
                _log.error("%s: %s", threading.current_thread().name, error)
            except Exception:  # noqa: BLE001 - the trouble with one piece must not end the work for the others
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
                self._count_turn(row["owner"])  # it was there until now: others have waited for longer

    def _next(self) -> Row | None:
        """What to do next: the oldest of the token that had its turn longest ago."""
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
