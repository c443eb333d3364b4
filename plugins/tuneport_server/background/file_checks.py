"""Checks each uploaded file once, in a process of its own, and keeps the result: a view computes nothing."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport_server import files
from tuneport_server.background.bounds import TRY_AGAIN, bounds_of
from tuneport_server.background.scheduling import Turns

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


class Checks(Turns):
    """The checks of files. A file without a result is checked, also after a kill at any time."""

    def __init__(self, server: Server) -> None:
        super().__init__("check", server.limits.checks, _POLL_SECONDS)
        self._server = server
        self._killed: Counter[str] = Counter()

    def stop(self) -> None:
        """End the checks that are under way; the next server makes them again."""
        self._end(0.0)
        self._kill(*list(self._processes))
        self._end(_STOP_SECONDS)

    def forget(self, id_: str) -> None:
        """The file was deleted: end its check, unless a job has the bytes still."""
        if self._server.store.row("SELECT 1 FROM held WHERE file = ?", id_) is None:
            self._kill(id_)

    def result(self, id_: str) -> dict[str, Any] | None:
        """What `checking.check` has found in a file; None until it is known."""
        row = self._server.store.row("SELECT result FROM checks WHERE file = ?", id_)
        return None if row is None else json.loads(row["result"])

    def _waiting(self, passed: Sequence[str]) -> list[Row]:
        return self._server.store.rows(_OLDEST, json.dumps(passed))

    def _do(self, row: Row) -> None:
        id_ = row["id"]
        try:
            with files.borrowed(self._server, id_) as path:
                result = self._outcome(id_, path)
            if result is not None:
                self._keep(id_, result)
        except FileNotFoundError:
            self._postpone(id_, _RETRY_SECONDS)  # deleted just now: it will not come back

    def _outcome(self, id_: str, path: Path) -> dict[str, Any] | None:
        """What the process says; None where the file should be checked again later."""
        limits = self._server.limits
        words = [str(path), str(os.getpid()), *map(str, bounds_of(limits))]
        process = self._launch(
            id_, ["tuneport_server.background.check_file", *words], subprocess.DEVNULL, subprocess.PIPE
        )
        if process is None:
            return None
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
        self._postpone(id_, _RETRY_SECONDS)
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
        self._server.starts.wake()


def _refusal(why: str) -> dict[str, Any]:
    return {"refused": True, "details": why}
