"""Several processes that read parts of one file at once, for files that are large enough to be worth it."""

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

from tuneport.dataset.findings.findings import Finding, Findings
from tuneport.dataset.read.source import ROW_BYTES, Source
from tuneport.dataset.scan.part import Part
from tuneport.dataset.scan.scan import Lines, Scan, first_lines, notes, scan, too_large
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.stats import Lengths, Tally

if sys.platform == "linux":
    import fcntl

CHUNK = 1 << 20
"""Bytes that a process is asked for at once; fewer towards the end, so that none waits long for the others there."""
WORTH_IT = 16 << 20
"""A smaller file is read before the processes would have started."""
_AT_MOST = 8
_AHEAD = 3  # chunks that a process is asked for before it has answered, so that it never waits
_PIPE = 1 << 20  # bytes: answers have room until somebody reads them
_WAITING = 256  # chunks that may wait for an earlier one
_RANGE = struct.Struct("<QQ")
_SIZE = struct.Struct("<Q")


@dataclass(slots=True)
class _Piece:
    """Whole lines of a file by their place, or one line that is beyond the bound; and what they hold, once known."""

    offset: int
    size: int
    beyond: bool
    part: Part | None = None
    process: _Process | None = None


def scan_with(source: Source, recipe: Recipe | None, workers: int | None) -> Scan:
    """The scan of a source, by as many processes as asked for, this one included, or as there are processors."""
    count = min(workers or len(os.sched_getaffinity(0)), _AT_MOST) if hasattr(os, "sched_getaffinity") else workers or 1
    large = source.path is not None and source.path.stat().st_size > WORTH_IT
    if not large or not source.splittable or recipe is None or not hasattr(os, "pread"):
        return scan(source, recipe)
    found = Scan()
    found.add(notes(source, recipe).part())
    with source.open() as file, ExitStack() as stack:
        others = [stack.enter_context(_Process(file, recipe)) for _ in range(count - 1 if sys.executable else 0)]
        for part in _parts(file, recipe, others):
            found.add(part)
        source.verify(file)
    return found


def _parts(file: BinaryIO, recipe: Recipe, others: list[_Process]) -> Iterator[Part]:
    """The parts of a file in order. The other processes are kept busy; what nobody was asked for is done here."""
    pieces, waiting = _pieces(file), deque[_Piece]()

    def keep_busy() -> None:
        for process in others:
            process.collect()
            while process.idle and (piece := next(pieces, None)):
                waiting.append(piece)
                if piece.beyond:
                    piece.part = _here(piece, file, recipe)
                else:
                    process.ask(piece)

    first = next(pieces)
    keep_busy()
    start = b"" if first.beyond else os.pread(file.fileno(), first.size, first.offset)
    for batch in first_lines(start, recipe):
        yield batch.part()
    if first.beyond:
        yield _here(first, file, recipe)
    for piece in pieces:
        waiting.append(piece)
        piece.part = _here(piece, file, recipe)
        keep_busy()
        while waiting and (waiting[0].part or len(waiting) > _WAITING):
            yield _settled(waiting.popleft(), file, recipe)
    while waiting:
        yield _settled(waiting.popleft(), file, recipe)


def _settled(piece: _Piece, file: BinaryIO, recipe: Recipe) -> Part:
    """What a piece holds, waited for; done here if its process is not there any more, such as for want of memory."""
    while piece.part is None and piece.process is not None and not piece.process.ended:
        piece.process.answer()
    return piece.part or _here(piece, file, recipe)


def _here(piece: _Piece, file: BinaryIO, recipe: Recipe) -> Part:
    if piece.beyond:
        return too_large(piece.size).part()
    return Lines(os.pread(file.fileno(), piece.size, piece.offset), recipe).part()


def _pieces(file: BinaryIO) -> Iterator[_Piece]:
    """Cuts a file after line ends."""
    handle, start, size = file.fileno(), 0, os.fstat(file.fileno()).st_size
    while start < size:
        step = min(CHUNK, max((size - start) >> 3, CHUNK >> 3))
        end = _after_line(handle, min(start + step, size), size)
        if end - start > ROW_BYTES:  # some line in it is long: look at the first
            end = _after_line(handle, start, size)
        yield _Piece(start, end - start, end - start > ROW_BYTES)
        start = end


def _after_line(handle: int, start: int, size: int) -> int:
    """The place after the first line feed at or after a place."""
    while start < size:
        data = os.pread(handle, 1 << 16, start)
        if (found := data.find(b"\n")) >= 0:
            return start + found + 1
        start += len(data) or size
    return size


class _Process:
    """Another process that reads parts of an open file when asked to, and answers in order."""

    def __init__(self, file: BinaryIO, recipe: Recipe) -> None:
        asked, self._questions = os.pipe()
        self._answers, answering = os.pipe()
        if sys.platform == "linux":
            with suppress(OSError):
                fcntl.fcntl(answering, fcntl.F_SETPIPE_SZ, _PIPE)
        start = _fork if _alone() else _start
        self.pid, self._wait = start(file.fileno(), asked, answering, self._questions, self._answers)
        os.close(asked)
        os.close(answering)
        self.ended = False
        self._asked: deque[_Piece] = deque()
        self._ready = select.poll()
        self._ready.register(self._answers, select.POLLIN)
        self._send(msgspec.json.encode(recipe) + b"\n")

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._questions)
        os.close(self._answers)
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)  # it holds nothing that could be lost
            self._wait()

    @property
    def idle(self) -> bool:
        """Whether it can be asked for more."""
        return not self.ended and len(self._asked) < _AHEAD

    def ask(self, piece: _Piece) -> None:
        """Ask for a piece; its `part` is set by an answer, unless the process ends before."""
        piece.process = self
        self._asked.append(piece)
        self._send(_RANGE.pack(piece.offset, piece.size))

    def collect(self) -> None:
        """Take the answers that are there."""
        while self._asked and not self.ended and self._ready.poll(0):
            self.answer()

    def answer(self) -> None:
        """Wait for the answer to the first question; `ended` if there is none."""
        piece = self._asked.popleft()
        head = self._read(_SIZE.size)
        data = self._read(*_SIZE.unpack(head)) if head else b""
        if data:
            piece.part = unpack(data)

    def _send(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._questions, data) :]
        except BrokenPipeError:
            self.ended = True

    def _read(self, size: int) -> bytes:
        parts = []
        while size and (more := os.read(self._answers, size)):
            parts.append(more)
            size -= len(more)
        self.ended = self.ended or size > 0
        return b"" if size else b"".join(parts)


def _alone() -> bool:
    """Whether this process has one thread only, and can so be forked: what other threads hold would stay held."""
    try:
        return sys.platform == "linux" and len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:
        return False


def _fork(handle: int, asked: int, answering: int, *ours: int) -> tuple[int, Callable[[], object]]:
    """A copy of this process, which starts at once; its number, and what waits for its end."""
    pid = os.fork()
    if not pid:
        with suppress(BaseException):  # whoever asked sees that there is no answer
            for each in ours:
                os.close(each)
            _serve(handle, asked, answering)
        os._exit(0)
    return pid, lambda: os.waitpid(pid, 0)


def _start(handle: int, asked: int, answering: int, *_: int) -> tuple[int, Callable[[], object]]:
    """A new process, which takes as long to start as Python does."""
    import subprocess

    process = subprocess.Popen(
        # -P: a file of the working folder that is named like a library is not imported. Its traceback helps nobody:
        # whoever asked sees that there is no answer.
        [sys.executable, "-P", "-m", "tuneport.dataset.scan.workers", str(handle)],
        stdin=asked,
        stdout=answering,
        stderr=subprocess.DEVNULL,
        pass_fds=[handle],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    return process.pid, process.wait


def _serve(handle: int, asked: int, answering: int) -> None:
    """What such a process does until nobody asks any more."""
    gc.disable()  # nothing that it makes refers back to itself, and a pass over what was there would copy it
    with open(asked, "rb") as questions, open(answering, "wb") as answers:
        recipe = msgspec.json.decode(questions.readline(), type=Recipe)
        while question := questions.read(_RANGE.size):
            offset, size = _RANGE.unpack(question)
            data = pack(Lines(os.pread(handle, size, offset), recipe).part())
            answers.write(_SIZE.pack(len(data)) + data)
            answers.flush()


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
        findings=Findings.of_state(counts, severities, msgspec.convert(findings, list[Finding])),
        tally=_tally(tally),
    )


def _tally(raw: dict[str, Any]) -> Tally:
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
