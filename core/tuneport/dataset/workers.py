"""Several processes that read parts of one file at once, for files that are large enough to be worth it."""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any, BinaryIO

import msgspec

from tuneport.dataset.findings import Finding, Findings
from tuneport.dataset.formats import Recipe
from tuneport.dataset.part import Part
from tuneport.dataset.scan import Lines, Scan, first_lines, fold, scan, too_large
from tuneport.dataset.source import ROW_BYTES, Source
from tuneport.dataset.stats import Lengths, Tally

CHUNK = 2 << 20
WORTH_IT = 16 << 20
"""A smaller file is read before the processes would have started."""
_AT_MOST = 8
_SIZE = 8

Range = tuple[int, int, bool]
"""Offset and length of whole lines; or of one line that is beyond the bound."""


def scan_with(source: Source, recipe: Recipe | None, workers: int | None) -> Scan:
    """The scan of a source, by as many processes as asked for, or as there are processors."""
    count = min(workers or len(os.sched_getaffinity(0)), _AT_MOST) if hasattr(os, "sched_getaffinity") else workers or 1
    large = source.path is not None and source.path.stat().st_size > WORTH_IT
    if count < 2 or not large or not source.splittable or source.utf16 or recipe is None or not sys.executable:
        return scan(source, recipe)
    found = Scan()
    with source.open() as file:
        for part in _parts(file, recipe, count):
            found.add(part)
        source.verify(file)
    return found


def _parts(file: BinaryIO, recipe: Recipe, count: int) -> Iterator[Part]:
    """The parts of a file in order. Each thread waits for a process of its own; none gets far ahead of the others."""
    ranges = _ranges(file)
    waiting: deque[Future[Part]] = deque()
    with ExitStack() as stack:
        pool: SimpleQueue[_Process] = SimpleQueue()
        for _ in range(count):
            pool.put(stack.enter_context(_Process(file, recipe)))
        threads = stack.enter_context(ThreadPoolExecutor(count))
        offset, size, beyond = next(ranges)
        for batch in first_lines(b"", recipe) if beyond else first_lines(os.pread(file.fileno(), size, offset), recipe):
            yield batch.fold() or fold(batch, batch.lines)
        if beyond:
            yield fold(too_large(size), 1)
        for one in ranges:
            waiting.append(threads.submit(_part, pool, file, recipe, one))
            if len(waiting) > 3 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _part(pool: SimpleQueue[_Process], file: BinaryIO, recipe: Recipe, one: Range) -> Part:
    offset, size, beyond = one
    if beyond:
        return fold(too_large(size), 1)
    process = pool.get()
    try:
        return process.part(offset, size) or _fold(os.pread(file.fileno(), size, offset), recipe)
    finally:
        pool.put(process)


def _fold(block: bytes, recipe: Recipe) -> Part:
    lines = Lines(block, recipe)
    return lines.fold() or fold(lines, lines.lines)


def _ranges(file: BinaryIO) -> Iterator[Range]:
    """Cuts a file after line ends, at about every CHUNK bytes."""
    handle, start, size = file.fileno(), 0, os.fstat(file.fileno()).st_size
    while start < size:
        end = _after_line(handle, min(start + CHUNK, size), size)
        if end - start > ROW_BYTES:  # some line in it is long: look at the first
            end = _after_line(handle, start, size)
        yield start, end - start, end - start > ROW_BYTES
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
    """Another process that reads parts of an open file when asked to."""

    def __init__(self, file: BinaryIO, recipe: Recipe) -> None:
        handle = file.fileno()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tuneport.dataset.workers", str(handle)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[handle],
            env=environment,
        )
        self._send(msgspec.json.encode(recipe))

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # it holds nothing that could be lost
        self._process.communicate()

    def _send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def part(self, offset: int, size: int) -> Part | None:
        """What those lines hold; None if the process is not there any more, such as for want of memory."""
        assert self._process.stdout is not None
        try:
            self._send(msgspec.json.encode((offset, size)))
        except BrokenPipeError:
            return None
        length = int.from_bytes(self._process.stdout.read(_SIZE), "little")
        data = self._process.stdout.read(length)
        return unpack(data) if length and len(data) == length else None


def serve(handle: int, asked: BinaryIO, answers: BinaryIO) -> None:
    """What such a process does until nobody asks any more."""
    recipe = msgspec.json.decode(asked.readline(), type=Recipe)
    for line in asked:
        offset, size = msgspec.json.decode(line, type=tuple[int, int])
        data = pack(_fold(os.pread(handle, size, offset), recipe))
        answers.write(len(data).to_bytes(_SIZE, "little") + data)
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
    serve(int(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)
