"""Checks each uploaded file once, in a separate process, and stores the result, so that a page computes nothing."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tuneport_server.background.bounds import TRY_AGAIN, bounds_of
from tuneport_server.background.scheduling import FairQueue
from tuneport_server.limits import ResourceLimits
from tuneport_server.store import Row, Store
from tuneport_server.vault import Vault

_POLL_SECONDS = 5.0
_RETRY_SECONDS = 30.0
_TRIES = 3  # of a check that is killed from outside
_STOP_SECONDS = 30.0

_log = logging.getLogger("tuneport.server")


class FileChecks(FairQueue):
    """The checks of files. A file without a result is checked, also after a kill at any time.

    `on_result` is called when a result is stored.
    """

    def __init__(self, store: Store, vault: Vault, limits: ResourceLimits, on_result: Callable[[], None]) -> None:
        super().__init__("check", limits.checks, _POLL_SECONDS)
        self._store, self._vault, self._limits, self._on_result = store, vault, limits, on_result
        self._killed: Counter[str] = Counter()

    def stop(self) -> None:
        """End the checks in progress; the next server repeats them."""
        self._end(0.0)
        self._kill(*list(self._processes))
        self._end(_STOP_SECONDS)

    def forget(self, id_: str) -> None:
        """End the check of a file that was deleted, unless a job still has the bytes."""
        if not self._store.files.list_held(id_):
            self._kill(id_)

    def _waiting(self, passed: Sequence[str]) -> list[Row]:
        return self._store.files.next_to_check(passed)

    def _do(self, row: Row) -> None:
        id_ = row["id"]
        try:
            with self._vault.borrow(id_) as path:
                result = self._check(id_, path)
            if result is not None:
                self._store.files.add_check(id_, result)
                self._killed.pop(id_, None)
                self._on_result()
        except FileNotFoundError:
            self._postpone(id_, _RETRY_SECONDS)  # deleted just now: it does not come back

    def _check(self, id_: str, path: Path) -> dict[str, Any] | None:
        """Return the result of the process; None if the file should be checked again later."""
        limits = self._limits
        arguments = [str(path), str(os.getpid()), *map(str, bounds_of(limits))]
        command = ["tuneport_server.background.check_file", *arguments]
        process = self._launch(id_, command, subprocess.DEVNULL, subprocess.PIPE)
        if process is None:
            return None
        late = False
        try:
            output, errors = process.communicate(timeout=limits.check_seconds)
        except subprocess.TimeoutExpired:
            late = True
            process.kill()
            process.communicate()
        if self._stopping or not self._store.files.is_unchecked(id_):
            return None
        if late:
            return _refusal(f"The check of the file takes more than {limits.check_seconds:,} seconds.")
        if process.returncode == 0:
            with contextlib.suppress(ValueError):
                return dict(json.loads(output))
        return self._retry_or_refuse(id_, process.returncode, errors.decode("utf-8", "replace")[-1000:].strip())

    def _retry_or_refuse(self, id_: str, code: int, errors: str) -> dict[str, Any] | None:
        """Return a result for a file whose check ended without one; None to check it again later."""
        _log.warning("The check of %s ended with %d: %s", id_, code, errors)
        self._postpone(id_, _RETRY_SECONDS)
        if code == TRY_AGAIN:
            return None
        self._killed[id_] += 1
        if self._killed[id_] < _TRIES:
            return None
        return _refusal(f"The check of the file ended {_TRIES} times without a result.")


def _refusal(why: str) -> dict[str, Any]:
    return {"refused": True, "details": why}
