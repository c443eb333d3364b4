"""A model's answers, kept in a folder: they can be compared with when the model is gone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.errors import UsageError
from tuneport.workflow.opening import open_model

if TYPE_CHECKING:
    from tuneport.answers import Reply
    from tuneport.dataset import Dataset, Example
    from tuneport.evaluate import Record
    from tuneport.model import Model

_ASKED_TOGETHER = 16


def record_answers(
    model: Model | str,
    rows: Dataset,
    folder: str | os.PathLike[str],
    *,
    max_tokens: int | None = None,
    on_reply: Callable[[Reply], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Record:
    """Ask a model every row, greedily, and keep its answers in a folder for `compare(…, record=folder)`.

    Each answer is on the disk before the next ones are asked for. Rows that the folder has an answer to are not asked
    again, so the same call goes on where an earlier one was ended. `max_tokens` bounds an answer; by default there is
    room for the longest reference and half as much again. `on_reply` sees each reply after it was kept, and may raise
    to end the call. `progress` gets (rows answered, rows). Raises UsageError where the folder is another model's or
    cannot be written.
    """
    from tuneport.evaluate import Record, answer_room
    from tuneport.evaluate.record import ABOUT, ANSWERS

    asked = open_model(model) if isinstance(model, str) else model
    place = Path(folder).expanduser()
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not (place / ABOUT).exists():
            (place / ABOUT).write_text(json.dumps({"model": str(asked.ref)}) + "\n", encoding="utf-8")
        record = Record.open(place)
        if record.model != str(asked.ref):
            raise UsageError(
                f"{place} is the record of {record.model}, not of {asked.ref}.", remedy="Name another folder."
            )
        limit = max_tokens or answer_room(rows)
        left = [one for one in rows if record.answer_to(one) is None]
        done, total = len(rows) - len(left), len(rows)
        if progress is not None:
            progress(done, total)
        _end_last_line(place / ANSWERS)
        for start in range(0, len(left), _ASKED_TOGETHER):
            chunk = left[start : start + _ASKED_TOGETHER]
            _ask(asked, chunk, limit, place / ANSWERS, on_reply)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
    except OSError as error:
        raise UsageError(
            f"{place} cannot be written: {error.strerror}.",
            remedy="Make room, or check the permissions. The same command goes on with what is left.",
        ) from error
    return Record.open(place)


def _ask(model: Model, chunk: list[Example], limit: int, path: Path, on_reply: Callable[[Reply], None] | None) -> None:
    """Ask some rows and keep the answers, before anybody else sees them."""
    from tuneport.evaluate import answer_line, answer_text
    from tuneport.evaluate.compare import replies

    answered = list(replies(model, chunk, limit, {}))
    with path.open("ab") as file:
        for example, reply in zip(chunk, answered, strict=True):
            line = answer_line(example, answer_text(reply), cut=reply.finish_reason == "length")
            file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    for reply in answered if on_reply is not None else ():
        on_reply(reply)  # type: ignore[misc]  # checked a line above


def _end_last_line(path: Path) -> None:
    """Remove what a kill has left of a last line."""
    if not path.exists():
        return
    with path.open("r+b") as file:
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
