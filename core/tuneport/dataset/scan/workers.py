"""Several processes that read parts of one large file in parallel."""

from __future__ import annotations

import gc
import os
import select
import signal
import struct
import sys
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from tuneport.dataset.findings.findings import Findings
from tuneport.dataset.findings.row_report import Finding
from tuneport.dataset.read.lines import ROW_BYTES
from tuneport.dataset.read.source import Source
from tuneport.dataset.scan.batches import LineBatch, batch_of_large_line, batch_of_notes, batches_of_start
from tuneport.dataset.scan.part import Part
from tuneport.dataset.scan.scan import Scan, scan
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.stats import Lengths, Tally

if sys.platform == "linux":
    import fcntl

CHUNK = 1 << 20
"""Bytes of one task; fewer towards the end, so that no process waits long for the others."""
WORTH_IT = 16 << 20
"""A smaller file is read before the processes would have started."""
_AT_MOST = 8
_AHEAD = 3  # tasks that a process has before it has answered, so that it never waits
_PIPE = 1 << 20  # bytes of answers that a pipe holds until they are read
_WAITING = 256  # tasks that may wait for an earlier one
_RANGE = struct.Struct("<QQ")
_SIZE = struct.Struct("<Q")


@dataclass(slots=True)
class _Task:
    """Complete lines of a file by their offset, or one line that is too large; and their part, once known."""

    offset: int
    size: int
    too_large: bool
    part: Part | None = None
    process: _Process | None = None


def scan_with(source: Source, recipe: Recipe | None, workers: int | None) -> Scan:
    """The scan of a source by `workers` processes, this one included; by default one for each processor."""
    count = min(workers or len(os.sched_getaffinity(0)), _AT_MOST) if hasattr(os, "sched_getaffinity") else workers or 1
    large = source.path is not None and source.path.stat().st_size > WORTH_IT
    if not large or not source.splittable or recipe is None or not hasattr(os, "pread"):
        return scan(source, recipe)
    found = Scan()
    found.add(batch_of_notes(source, recipe).part())
    with source.open() as file, ExitStack() as stack:
        others = [stack.enter_context(_Process(file, recipe)) for _ in range(count - 1 if sys.executable else 0)]
        for part in _read_parts(file, recipe, others):
            found.add(part)
        source.verify(file)
    return found


def _read_parts(file: BinaryIO, recipe: Recipe, others: list[_Process]) -> Iterator[Part]:
    """The parts of a file in order. The other processes are kept busy; this process reads the remaining tasks."""
    tasks, waiting = _cut_file(file), deque[_Task]()

    def keep_busy() -> None:
        for process in others:
            process.receive_ready()
            while process.is_free and (task := next(tasks, None)):
                waiting.append(task)
                if task.too_large:
                    task.part = _read_here(task, file, recipe)
                else:
                    process.send(task)

    first = next(tasks)
    keep_busy()
    start = b"" if first.too_large else os.pread(file.fileno(), first.size, first.offset)
    for batch in batches_of_start(start, recipe):
        yield batch.part()
    if first.too_large:
        yield _read_here(first, file, recipe)
    for task in tasks:
        waiting.append(task)
        task.part = _read_here(task, file, recipe)
        keep_busy()
        while waiting and (waiting[0].part or len(waiting) > _WAITING):
            yield _wait_for(waiting.popleft(), file, recipe)
    while waiting:
        yield _wait_for(waiting.popleft(), file, recipe)


def _wait_for(task: _Task, file: BinaryIO, recipe: Recipe) -> Part:
    """The part of a task; read here if its process has ended, such as for lack of memory."""
    while task.part is None and task.process is not None and not task.process.ended:
        task.process.receive()
    return task.part or _read_here(task, file, recipe)


def _read_here(task: _Task, file: BinaryIO, recipe: Recipe) -> Part:
    if task.too_large:
        return batch_of_large_line(task.size).part()
    return LineBatch(os.pread(file.fileno(), task.size, task.offset), recipe).part()


def _cut_file(file: BinaryIO) -> Iterator[_Task]:
    """Cut a file after line ends."""
    handle, start, size = file.fileno(), 0, os.fstat(file.fileno()).st_size
    while start < size:
        step = min(CHUNK, max((size - start) >> 3, CHUNK >> 3))
        end = _find_line_end(handle, min(start + step, size), size)
        if end - start > ROW_BYTES:  # it contains a long line: look at the first one
            end = _find_line_end(handle, start, size)
        yield _Task(start, end - start, end - start > ROW_BYTES)
        start = end


def _find_line_end(handle: int, start: int, size: int) -> int:
    """The offset after the first line feed from `start` on."""
    while start < size:
        data = os.pread(handle, 1 << 16, start)
        if (found := data.find(b"\n")) >= 0:
            return start + found + 1
        start += len(data) or size
    return size


class _Process:
    """Another process that reads parts of an open file on request, and answers in order."""

    def __init__(self, file: BinaryIO, recipe: Recipe) -> None:
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        if sys.platform == "linux":
            with suppress(OSError):
                fcntl.fcntl(answers, fcntl.F_SETPIPE_SZ, _PIPE)
        start = _fork if _is_single_threaded() else _spawn
        self.pid, self._wait = start(file.fileno(), requests, answers, self._requests, self._answers)
        os.close(requests)
        os.close(answers)
        self.ended = False
        self._pending: deque[_Task] = deque()
        self._ready = select.poll()
        self._ready.register(self._answers, select.POLLIN)
        self._write(msgspec.json.encode(recipe) + b"\n")

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._requests)
        os.close(self._answers)
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)  # nothing can be lost
            self._wait()

    @property
    def is_free(self) -> bool:
        """Whether it can take another task."""
        return not self.ended and len(self._pending) < _AHEAD

    def send(self, task: _Task) -> None:
        """Send a task; an answer sets its `part`, unless the process ends first."""
        task.process = self
        self._pending.append(task)
        self._write(_RANGE.pack(task.offset, task.size))

    def receive_ready(self) -> None:
        """Receive the answers that have arrived."""
        while self._pending and not self.ended and self._ready.poll(0):
            self.receive()

    def receive(self) -> None:
        """Wait for the answer to the first task; sets `ended` if there is none."""
        task = self._pending.popleft()
        head = self._read(_SIZE.size)
        data = self._read(*_SIZE.unpack(head)) if head else b""
        if data:
            task.part = unpack(data)

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._requests, data) :]
        except BrokenPipeError:
            self.ended = True

    def _read(self, size: int) -> bytes:
        parts = []
        while size and (more := os.read(self._answers, size)):
            parts.append(more)
            size -= len(more)
        self.ended = self.ended or size > 0
        return b"" if size else b"".join(parts)


def _is_single_threaded() -> bool:
    """Whether this process has only one thread and can be forked: locks of other threads would stay locked."""
    try:
        return sys.platform == "linux" and len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:
        return False


def _fork(handle: int, requests: int, answers: int, *ours: int) -> tuple[int, Callable[[], object]]:
    """Start a copy of this process, which is fast. Returns its id, and a function that waits for its end."""
    pid = os.fork()
    if not pid:
        with suppress(BaseException):  # the parent sees that there is no answer
            for each in ours:
                os.close(each)
            _serve(handle, requests, answers)
        os._exit(0)
    return pid, lambda: os.waitpid(pid, 0)


def _spawn(handle: int, requests: int, answers: int, *_: int) -> tuple[int, Callable[[], object]]:
    """Start a new Python process. Returns as `_fork` does."""
    import subprocess

    process = subprocess.Popen(
        # -P: do not import a file of the working folder that has a library's name. Its traceback is not needed, because
        # the parent sees that there is no answer.
        [sys.executable, "-P", "-m", "tuneport.dataset.scan.workers", str(handle)],
        stdin=requests,
        stdout=answers,
        stderr=subprocess.DEVNULL,
        pass_fds=[handle],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    return process.pid, process.wait


def _serve(handle: int, requests: int, answers: int) -> None:
    """In the other process: answer requests until there are no more."""
    gc.disable()  # there are no reference cycles, and a collection would copy the parent's memory
    with open(requests, "rb") as incoming, open(answers, "wb") as outgoing:
        recipe = msgspec.json.decode(incoming.readline(), type=Recipe)
        while request := incoming.read(_RANGE.size):
            offset, size = _RANGE.unpack(request)
            data = pack(LineBatch(os.pread(handle, size, offset), recipe).part())
            outgoing.write(_SIZE.pack(len(data)) + data)
            outgoing.flush()


def pack(part: Part) -> bytes:
    """A part as bytes."""
    numbers = (part.lines, part.read, part.used, part.size)
    rows = (part.keys.tobytes(), part.digests, part.places.tobytes(), part.kept)
    return msgspec.msgpack.encode((numbers, rows, part.findings.state(), part.tally))


def unpack(data: bytes) -> Part:
    """The part that `pack` wrote."""
    (lines, read, used, size), (keys, digests, places, kept), (counts, severities, findings), tally = (
        msgspec.msgpack.decode(data)
    )
    return Part(
        lines=lines,
        read=read,
        used=used,
        size=size,
        keys=array("Q", keys),
        digests=digests,
        places=array("Q", places),
        kept=bytearray(kept),
        findings=Findings.from_state(counts, severities, msgspec.convert(findings, list[Finding])),
        tally=_unpack_tally(tally),
    )


def _unpack_tally(raw: dict[str, Any]) -> Tally:
    answers = raw["answers"]
    lengths = {
        name: Lengths(Counter(raw[name]["counts"]), raw[name]["total"], raw[name]["smallest"], raw[name]["largest"])
        for name in ("turns", "characters", "tokens")
    }
    return Tally(
        shapes=Counter(raw["shapes"]),
        roles=Counter(raw["roles"]),
        answers=None if answers is None else Counter(answers),
        **lengths,
    )


if __name__ == "__main__":
    _serve(int(sys.argv[1]), 0, 1)
