"""A child process that runs a model's own files with limits on time and memory, and answers requests."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

ANSWER_BYTES = 2**28
_FRAME = 8  # bytes of a message's length
_ENDING_SECONDS = 5.0


class ChildEnded(Exception):  # noqa: N818 - names the condition
    """The child ended before it answered. `code` is its exit code, or minus the signal's number; None if it was killed
    here because its answer had more than ANSWER_BYTES.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class ChildProcess:
    """Runs a script that answers each message on standard input with one on standard output. Thread-safe.

    It starts with the first message, and again with the next message after it ended. On every start, `make_opening`
    returns the first messages to send, and `check_opening` gets the one answer to them. A message is 8 bytes of length
    and the bytes.
    """

    def __init__(
        self, script: Path, make_opening: Callable[[], Sequence[bytes]], check_opening: Callable[[bytes], None]
    ) -> None:
        self._script, self._make_opening, self._check_opening = script, make_opening, check_opening
        self._forget()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Exclusive use of the child. A fork gets another child, because the old one still talks to the parent."""
        if self._owner != os.getpid():
            self._forget()
        with self._lock:
            yield

    def ask(self, message: bytes) -> bytes:
        """The answer to a message. Raises ChildEnded."""
        self.send(message)
        return self.receive()

    def send(self, message: bytes) -> None:
        """Send a message; `receive` returns the answer. Raises ChildEnded."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        self._send(message)

    def receive(self) -> bytes:
        """The answer to the last message. Raises ChildEnded."""
        assert self.process is not None
        got: IO[bytes] = self.process.stdout  # type: ignore[assignment]  # it is a pipe
        size = int.from_bytes(got.read(_FRAME), "little")
        answer = got.read(size) if 0 < size <= ANSWER_BYTES else b""
        if not 0 < size <= ANSWER_BYTES or len(answer) < size:
            raise self._end_error(too_long=size > ANSWER_BYTES)
        return answer

    def close(self) -> None:
        """End the process, even while a thread waits for its answer. The next message starts another."""
        if self._owner == os.getpid():
            if (process := self.process) is not None:
                process.kill()
            with self._lock:
                self._end()

    def _forget(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self.process: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[..., ChildProcess] | None = None

    def _start(self) -> None:
        self._end()
        self.process = subprocess.Popen(
            # -P: the script's folder is not on the child's path. The environment contains no secrets.
            [sys.executable, "-P", str(self._script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        self._finalizer = weakref.finalize(self, _end_process, self.process, os.getpid())
        for message in self._make_opening():
            self._send(message)
        answer = self.receive()
        try:
            self._check_opening(answer)
        except BaseException:  # the next message starts another child, with the same result
            self._end()
            raise

    def _send(self, message: bytes) -> None:
        assert self.process is not None
        sent: IO[bytes] = self.process.stdin  # type: ignore[assignment]  # it is a pipe
        try:
            sent.write(len(message).to_bytes(_FRAME, "little"))
            sent.write(message)
            sent.flush()
        except BrokenPipeError:
            raise self._end_error() from None

    def _end_error(self, *, too_long: bool = False) -> ChildEnded:
        process = self.process
        assert process is not None
        if not too_long:
            with suppress(subprocess.TimeoutExpired):  # it closed its pipe, so its exit code comes soon
                process.wait(_ENDING_SECONDS)
        self._end()
        return ChildEnded(None if too_long else process.returncode)

    def _end(self) -> None:
        if self.process is not None:
            _end_process(self.process, self._owner)
        if self._finalizer is not None:
            self._finalizer.detach()
        self.process = self._finalizer = None


def environment() -> dict[str, str]:
    """A child's environment: where packages are, how many threads to use, and no secrets."""
    kept = ("LD_LIBRARY_PATH", "TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS")
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **{name: os.environ[name] for name in kept if name in os.environ},
    }


def _end_process(process: subprocess.Popen[bytes], owner: int) -> None:
    if owner != os.getpid():
        return
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                continue  # unsent data is not needed
    if process.returncode is None:
        process.kill()
    process.wait()
