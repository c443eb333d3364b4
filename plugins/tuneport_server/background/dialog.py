"""Questions to a process and their answers, a line each, within a time limit."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LAST_SECONDS = 5.0  # for a process to end after its last answer


class Dialog:
    """Talks to a process over its standard input and output. A process that answers too late is killed."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.late = False

    def __enter__(self) -> Dialog:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # which ends a process that waits for input
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_SECONDS)
        self._process.kill()

    def ask(self, question: bytes, seconds: float) -> dict[str, Any] | None:
        """Return the line that answers; None if the process ends without one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._timer(seconds), contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(question)
            self._process.stdin.flush()
            return dict(json.loads(self._process.stdout.readline()))
        return None

    @contextmanager
    def _timer(self, seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, self._kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _kill(self) -> None:
        self.late = True
        self._process.kill()
