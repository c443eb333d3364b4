"""A model's answers, kept in a folder: they can be compared with when the model is gone."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tuneport.doors import AUTHORS, public
from tuneport.errors import UsageError
from tuneport.workflow.opening import open_model

if TYPE_CHECKING:
    from tuneport.contract.answers import Reply
    from tuneport.contract.model import Model
    from tuneport.dataset import Dataset, Example
    from tuneport.evaluate import Record

ASKED_TOGETHER = 16
"""Rows that are asked at once: a kill loses at most so many answers."""


@public(AUTHORS)
def record_answers(
    model: Model | str,
    rows: Dataset,
    folder: str | os.PathLike[str],
    *,
    max_tokens: int | None = None,
    before: Callable[[Sequence[Example]], None] | None = None,
    on_reply: Callable[[Reply], None] | None = None,
    progress: Callable[[int, int, str], None] | bool | None = None,
) -> Record:
    """Ask a model every row, greedily, and keep its answers in a folder for `compare(…, record=folder)`.

    Each answer is on the disk before the next ones are asked for. Rows that the folder has an answer to are not asked
    again, nor are rows that ask the same as another; an answer that a smaller `max_tokens` has cut is asked for again.
    So the same call goes on where an earlier one was ended. `max_tokens` bounds an answer; by default there is room for
    the longest reference and half as much again. `before` sees the rows that are asked next, at most 16, and `on_reply`
    each reply after it was kept; both may raise to end the call. `progress` gets (rows answered, rows, words); by
    default a terminal and a notebook show it, and False shows nothing. Raises UsageError where the folder is another
    model's, another process is writing to it, or it cannot be written.
    """
    from tuneport.evaluate import Record, answer_room
    from tuneport.evaluate.record import ABOUT, ANSWERS
    from tuneport.terminal.progress import shown

    asked = open_model(model) if isinstance(model, str) else model
    place = Path(folder).expanduser()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _held(place / ANSWERS) as file, shown(f"Asking {asked.ref}", progress) as tell:
            if not (place / ABOUT).exists():
                _write_about(place / ABOUT, str(asked.ref))
            record = Record.open(place)
            if record.model != str(asked.ref):
                raise UsageError(
                    f"{place} is the record of {record.model}, not of {asked.ref}.", remedy="Name another folder."
                )
            limit = max_tokens or answer_room(rows)
            left = _unanswered(record, rows, limit)
            done, total = len(rows) - len(left), len(rows)
            for start in range(0, len(left), ASKED_TOGETHER):
                if tell is not None:
                    tell(done, total, "rows")
                chunk = left[start : start + ASKED_TOGETHER]
                if before is not None:
                    before(chunk)
                _ask(asked, chunk, limit, file, on_reply)
                done += len(chunk)
            if tell is not None:
                tell(done, total, "rows")
    except OSError as error:
        raise UsageError(
            f"{place} cannot be written: {error.strerror}.",
            remedy="Make room, or check the permissions. The same command goes on with what is left.",
        ) from error
    return Record.open(place)


def _unanswered(record: Record, rows: Dataset, limit: int) -> list[Example]:
    """The rows to ask, each question once."""
    from tuneport.evaluate import prompt_key

    left: dict[str, Example] = {}
    for one in rows:
        if not record.is_answered(one, limit):
            left.setdefault(prompt_key(one), one)
    return list(left.values())


def _ask(
    model: Model, chunk: list[Example], limit: int, file: IO[bytes], on_reply: Callable[[Reply], None] | None
) -> None:
    """Ask some rows and keep the answers, before anybody else sees them."""
    from tuneport.evaluate import answer_line
    from tuneport.evaluate.compare import replies

    answered = list(replies(model, chunk, limit, {}))
    lines = [answer_line(example, reply, limit) for example, reply in zip(chunk, answered, strict=True)]
    file.write("".join(f"{line}\n" for line in lines).encode())
    file.flush()
    os.fsync(file.fileno())
    for reply in answered if on_reply is not None else ():
        on_reply(reply)  # type: ignore[misc]  # checked a line above


@contextmanager
def _held(path: Path) -> Iterator[IO[bytes]]:
    """The file of answers, open behind its last whole line, and this process's alone."""
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"Another process is writing to {path}.", remedy="Wait until it is done, then run this again."
            ) from None
        _end_last_line(file)
        yield file


def _write_about(path: Path, model: str) -> None:
    """Write the record's first file, complete or not at all: a kill must leave no damaged record."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as out:
        out.write(json.dumps({"model": model}) + "\n")
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)


def _end_last_line(file: IO[bytes]) -> None:
    """Remove what a kill or a full disk has left of a last line."""
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
