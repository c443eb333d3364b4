"""A model's answers, saved in a folder, so that they can be compared with after the model is gone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tuneport.doors import AUTHORS, public
from tuneport.errors import UsageError
from tuneport.files import write_json
from tuneport.workflow.opening import open_model

if TYPE_CHECKING:
    from tuneport.contract.answers import Reply
    from tuneport.contract.model import Model
    from tuneport.dataset import Dataset, Example
    from tuneport.evaluate import Record
    from tuneport.terminal.progress import Progress

BATCH_ROWS = 16
"""Rows that are asked together. If the process is killed, at most this many answers are lost."""


@public(AUTHORS)
def record_answers(
    model: Model | str,
    rows: Dataset,
    folder: str | os.PathLike[str],
    *,
    max_tokens: int | None = None,
    before: Callable[[Sequence[Example]], None] | None = None,
    on_reply: Callable[[Reply], None] | None = None,
    progress: Progress | bool | None = None,
) -> Record:
    """Ask a model every row at temperature 0, and save its answers in a folder for `compare(…, record=folder)`.

    Each batch of answers is on disk before the next one is asked. Rows that the folder already answers are not asked
    again, nor are rows with the same prompt as another row; an answer that a smaller `max_tokens` truncated is asked
    again. So the same call continues where an earlier one stopped. `max_tokens` limits an answer, in tokens; by default
    there is room for one and a half times the longest reference. `before` is called with the rows of each batch, at
    most 16, before they are asked, and `on_reply` with each reply after it is saved; both may raise to end the call.
    `progress` is called with (rows answered, rows in all, words); by default a terminal or notebook shows it, and False
    shows nothing. Raises UsageError if the folder is another model's, if another process writes to it, or if it cannot
    be written.
    """
    from tuneport.evaluate import Record, answer_room
    from tuneport.evaluate.record import ABOUT, ANSWERS
    from tuneport.terminal.progress import show_progress

    asked = open_model(model) if isinstance(model, str) else model
    place = Path(folder).expanduser()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _open_locked(place / ANSWERS) as file, show_progress(f"Asking {asked.ref}", progress) as report:
            if not (place / ABOUT).exists():
                write_json(place / ABOUT, {"model": str(asked.ref)})
            record = Record.open(place)
            if record.model != str(asked.ref):
                raise UsageError(
                    f"{place} is the record of {record.model}, not of {asked.ref}.", remedy="Use another folder."
                )
            limit = max_tokens or answer_room(rows)
            left = _rows_to_ask(record, rows, limit)
            for start in range(0, len(left), BATCH_ROWS):
                if report is not None:
                    report(len(rows) - len(left) + start, len(rows), "rows")
                batch = left[start : start + BATCH_ROWS]
                if before is not None:
                    before(batch)
                _ask(asked, batch, limit, file, on_reply)
            if report is not None:
                report(len(rows), len(rows), "rows")
    except OSError as error:
        raise UsageError(
            f"{place} cannot be written: {error.strerror}.",
            remedy="Free some space, or check the permissions. Then run the same command again: it continues.",
        ) from error
    return Record.open(place)


def _rows_to_ask(record: Record, rows: Dataset, limit: int) -> list[Example]:
    """The rows without an answer, each prompt once."""
    from tuneport.evaluate import prompt_key

    left: dict[str, Example] = {}
    for one in rows:
        if not record.is_answered(one, limit):
            left.setdefault(prompt_key(one), one)
    return list(left.values())


def _ask(
    model: Model, chunk: list[Example], limit: int, file: IO[bytes], on_reply: Callable[[Reply], None] | None
) -> None:
    """Ask some rows and save the answers before they are passed on."""
    from tuneport.evaluate import answer_line
    from tuneport.evaluate.compare import ask_chunk

    answered = list(ask_chunk(model, chunk, limit, {}))
    lines = [answer_line(example, reply, limit) for example, reply in zip(chunk, answered, strict=True)]
    file.write("".join(f"{line}\n" for line in lines).encode())
    file.flush()
    os.fsync(file.fileno())
    for reply in answered if on_reply is not None else ():
        on_reply(reply)  # type: ignore[misc]  # checked a line above


@contextmanager
def _open_locked(path: Path) -> Iterator[IO[bytes]]:
    """Open the file of answers after its last complete line, locked for this process."""
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"Another process is writing to {path}.", remedy="Wait until it has finished, then run this again."
            ) from None
        _drop_partial_line(file)
        yield file


def _drop_partial_line(file: IO[bytes]) -> None:
    """Remove an incomplete last line, which a killed process or a full disk can leave."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65536)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            file.truncate(start + found + 1)
            return
        end = start
    file.truncate(0)
