"""A model's chat template, rendered at arm's length: in a child process that has limits on time and memory."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from tuneport import BackendError, DataError

SECONDS = 5.0
SECONDS_PER_ROW = 0.02
"""Processor time that a row may take; usual ones take under 0.1 ms."""
MEMORY_BYTES = 2**30
ANSWER_BYTES = 2**28
_BATCH_ROWS = 256
_CHILD = Path(__file__).with_name("template_child.py")


class ChatTemplate:
    """A Jinja chat template with its variables (`bos_token` and the like). Thread-safe; the child starts when needed.

    Every template is treated as a stranger's. One that runs too long or wants too much memory ends its child and is an
    error; the next call starts another. `seconds` of processor time may pass for a batch of rows, beside
    SECONDS_PER_ROW for each.
    """

    def __init__(self, source: str, variables: Mapping[str, Any], seconds: float = SECONDS) -> None:
        self.source = source
        self.variables = dict(variables)
        self.seconds = seconds
        self._forget()

    @property
    def sha256(self) -> str:
        """The name of the template's text in lineages and model folders."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def rows(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Render rows `{messages, tools, prompt, turns}`; see template_child.Renderer.row for what comes back.

        A row that the template refuses comes back as `{"error": why}`. Raises DataError when the template cannot be
        compiled or breaks its limits.
        """
        if self._process != os.getpid():
            self._forget()  # in a fork the child belongs to the parent, whose conversation with it goes on
        pending, answers = list(rows), []
        with self._lock:
            for start in range(0, len(pending), _BATCH_ROWS):
                answers += self._ask(pending[start : start + _BATCH_ROWS])
        return answers

    def close(self) -> None:
        """End the child; the next call starts another."""
        if self._process == os.getpid():
            with self._lock:
                self._end()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[..., ChatTemplate] | None = None

    def _ask(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        child = self._started()
        answer: list[dict[str, Any]] = self._exchange(child, rows)
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._end()
        child = subprocess.Popen(
            # -P: this plugin's folder is not put on the child's path. A bare environment: it needs nobody's secrets.
            [sys.executable, "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""),
            },
        )
        self._child, self._finalizer = child, weakref.finalize(self, _end_child, child, os.getpid())
        first = {
            "template": self.source,
            "variables": self.variables,
            "seconds": self.seconds,
            "seconds_per_row": SECONDS_PER_ROW,
            "memory_bytes": MEMORY_BYTES,
        }
        reply = self._exchange(child, first)
        if "error" in reply:
            raise DataError(f"The model's chat template cannot be compiled: {reply['error']}.", remedy=_OTHER_BASE)
        return child

    def _exchange(self, child: subprocess.Popen[bytes], message: Any) -> Any:
        sent: IO[bytes] = child.stdin  # type: ignore[assignment]  # it is a pipe
        got: IO[bytes] = child.stdout  # type: ignore[assignment]  # it is a pipe
        try:
            sent.write(msgspec.json.encode(message) + b"\n")
            sent.flush()
            line = got.readline(ANSWER_BYTES)
        except BrokenPipeError:
            line = b""
        if line.endswith(b"\n"):
            return msgspec.json.decode(line)
        self._end()
        if line:
            raise DataError("The model's chat template writes texts of more than 256 MB.", remedy=_OTHER_BASE)
        if child.returncode and child.returncode > 0:
            raise BackendError(
                "The process that renders chat templates could not start or failed.",
                remedy=f"Try: {sys.executable} -c 'import jinja2'",
            )
        took = f"it took over {self.seconds:g} s of processor time or too much memory"
        raise DataError(f"The model's chat template was ended: {took}.", remedy=_OTHER_BASE)

    def _end(self) -> None:
        if self._child is not None:
            _end_child(self._child, self._process)
        if self._finalizer is not None:
            self._finalizer.detach()
        self._child = self._finalizer = None


_OTHER_BASE = "Mend chat_template.jinja in a copy of the model's folder and name that folder, or choose another model."


def _end_child(child: subprocess.Popen[bytes], process: int) -> None:
    if process != os.getpid():
        return
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                continue  # what was not sent is no longer wanted
    if child.returncode is None:
        child.kill()
    child.wait()
