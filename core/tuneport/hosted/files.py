"""The files that are uploaded: written here once, named by the SHA-256 of their bytes, and sent once."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.dataset import Conversation, Preference
from tuneport.errors import BackendError, TuneportError, UsageError
from tuneport.hosted.reports import DataFile
from tuneport.hosted.service import encode_row

if TYPE_CHECKING:
    from tuneport.dataset import DataRules, Dataset, Example
    from tuneport.hosted.http import Http
    from tuneport.hosted.reports import Start
    from tuneport.hosted.service import Service

_BATCH = 256
_SENDS = 3
_SYSTEM = ("system", "developer")


def write_rows(
    service: Service, part: str, rows: Dataset, folder: Path, drop: DataRules | None
) -> tuple[DataFile, str | None]:
    """Write rows as JSON lines, under a name made from their SHA-256, and return the file and the system prompt that
    all its rows share. `drop` leaves out rows that are longer than those rules allow.
    """
    digest, count, dropped = hashlib.sha256(), 0, 0
    prompts: set[str | None] = set()
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".writing")
    place = Path(temporary)
    try:
        with os.fdopen(handle, "wb") as out:
            for example, fits in _measure_rows(rows, drop):
                if not fits:
                    dropped += 1
                    continue
                line = encode_row(service.write_row(example))
                digest.update(line)
                out.write(line)
                count += 1
                if len(prompts) < 2:
                    prompts.add(_system_of(example))
            out.flush()
            os.fsync(out.fileno())
        sha256 = digest.hexdigest()
        path = folder / f"{sha256}.jsonl"
        place.replace(path)
    finally:
        place.unlink(missing_ok=True)
    if not count:
        raise UsageError("Every row is too long for the model.", remedy="Split the rows, or choose another model.")
    name, size = f"tuneport-{sha256[:40]}.jsonl", path.stat().st_size
    file = DataFile(part=part, path=path, name=name, sha256=sha256, bytes=size, rows=count, dropped=dropped)
    return file, prompts.pop() if len(prompts) == 1 else None


def ensure_file(service: Service, http: Http, start: Start, file: DataFile) -> str:
    """The id of the file at the service, uploaded unless it is there, once it is ready.

    Raises DataError where the service finds it bad, and a passing error where it cannot be asked.
    """
    for attempt in range(_SENDS):
        found = service.find_file(http, start, file)
        if found is None:
            if not file.path.is_file():
                raise UsageError(
                    f"The file {file.path} is gone.", remedy="Run the same command again: it is rewritten."
                )
            try:
                found = service.send_file(http, start, file)
            except TuneportError as error:  # what was sent is looked for before it is sent again
                if not error.passing or attempt + 1 == _SENDS:
                    raise
                time.sleep(http.limits.pause * 2**attempt)
                continue
        _wait_until_ready(service, http, start, found)
        return found
    raise AssertionError("unreachable")


def _wait_until_ready(service: Service, http: Http, start: Start, file_id: str) -> None:
    limits = http.limits
    deadline, pause = time.monotonic() + limits.ready, min(limits.pause, limits.poll)
    while not service.is_file_ready(http, start, file_id):
        if time.monotonic() > deadline:
            raise BackendError(
                f"{service.title} has not processed the file {file_id} after {limits.ready / 60:.0f} minutes.",
                remedy="Run the same command later: it continues from here.",
                passing=True,
            )
        time.sleep(pause)
        pause = min(2 * pause, limits.poll)


def _measure_rows(rows: Dataset, drop: DataRules | None) -> Iterator[tuple[Example, bool]]:
    """Each row, and whether it is short enough."""
    if drop is None or drop.max_tokens is None or drop.count_tokens is None:
        yield from ((one, True) for one in rows)
        return
    batch: list[Example] = []
    for one in rows:
        batch.append(one)
        if len(batch) == _BATCH:
            yield from zip(batch, (size <= drop.max_tokens for size in drop.count_tokens(batch)), strict=True)
            batch = []
    yield from zip(batch, (size <= drop.max_tokens for size in drop.count_tokens(batch)), strict=True)


def _system_of(example: Example) -> str | None:
    turns = example.messages if isinstance(example, Conversation) else ()
    turns = example.prompt if isinstance(example, Preference) else turns
    return turns[0].text if turns and turns[0].role in _SYSTEM else None
