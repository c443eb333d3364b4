"""A folder that records another model: its answers, and the events of its training."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from tuneport.contract.events import Event
from tuneport.dataset import Completion, Conversation, Example, Message
from tuneport.doors import AUTHORS, public
from tuneport.errors import DataError
from tuneport.evaluate.exchange import answer_text, prompt_and_reference

if TYPE_CHECKING:
    from tuneport.contract.answers import Reply

ABOUT, ANSWERS, EVENTS = "record.json", "answers.jsonl", "events.jsonl"
_LARGEST = 64 * 2**20  # bytes of record.json
_LONGEST_LINE = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAnswer:
    """A model's answer to a row. `cut` is whether the token limit, `limit`, truncated it. `calls` are its tool calls,
    which `text` has as JSON.
    """

    text: str
    cut: bool = False
    limit: int | None = None
    calls: tuple[Mapping[str, Any], ...] = ()


@public(AUTHORS)
@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A model's answers by prompt, and the events of its training.

    The folder has `record.json`, an object with the model's name as `model`; `answers.jsonl`, with a line `{"key",
    "answer", "cut"}` for each row, of which the last one with a key counts; and `events.jsonl`, with a line for each
    event as `Event.to_dict` writes it. The last two files may be missing.
    """

    folder: Path
    model: str
    about: Mapping[str, Any]
    answers: Mapping[str, RecordedAnswer]

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Record:
        """Read a record. Raises DataError if the folder has none, or if it is damaged."""
        place = Path(folder).expanduser()
        about = _read_object(place / ABOUT)
        model = about.get("model")
        if not isinstance(model, str) or not model:
            raise _damage_error(place / ABOUT, "it does not name a model")
        return cls(folder=place, model=model, about=about, answers=dict(_answers(place / ANSWERS)))

    @property
    def fingerprint(self) -> str:
        """A hash of the model and its answers."""
        kept = sorted((key, one.text, one.cut) for key, one in self.answers.items())
        return hashlib.sha256(json.dumps([self.model, kept]).encode()).hexdigest()

    def answer_to(self, example: Example) -> RecordedAnswer | None:
        """The model's answer to a row, or None if it was not asked."""
        return self.answers.get(prompt_key(example))

    def is_answered(self, example: Example, limit: int) -> bool:
        """Whether there is an answer of up to `limit` tokens. One that a smaller limit truncated does not count."""
        kept = self.answer_to(example)
        return kept is not None and not (kept.cut and kept.limit is not None and kept.limit < limit)

    def with_answers(self, rows: Iterable[Example]) -> Iterator[Example]:
        """The rows that the model was asked, with its answer as the one to train on, and tool calls as calls. Truncated
        and empty answers are left out.
        """
        for row in rows:
            kept = self.answer_to(row)
            if kept is not None and not kept.cut and kept.text.strip():
                asked = prompt_and_reference(row)[0]
                tools = () if isinstance(row, Completion) else row.tools
                if kept.calls:
                    answer = Message(role="assistant", tool_calls=[dict(one) for one in kept.calls])
                else:
                    answer = Message(role="assistant", content=kept.text)
                yield Conversation(messages=(*asked, answer), tools=tools)

    def events(self) -> Iterator[Event]:
        """The events of its training, oldest first. Raises DataError if the file is damaged."""
        path = self.folder / EVENTS
        for number, raw in _lines(path):
            try:
                yield Event.from_dict(raw)
            except (KeyError, TypeError, ValueError) as error:
                raise _damage_error(path, f"line {number:,} is not an event") from error


def prompt_key(example: Example) -> str:
    """A hash of a row's prompt, as 32 hexadecimal digits: equal for rows with the same prompt and tools."""
    turns: Sequence[Message] = prompt_and_reference(example)[0]
    tools = None if isinstance(example, Completion) else example.tools
    asked = [[turn.to_dict() for turn in turns], tools]
    return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:32]


def answer_line(example: Example, reply: Reply, limit: int) -> str:
    """The line of `answers.jsonl` for a reply of up to `limit` tokens, without a line end."""
    line: dict[str, Any] = {"key": prompt_key(example), "answer": answer_text(reply)}
    line |= {"cut": reply.finish_reason == "length", "limit": limit}
    if reply.tool_calls:
        line["calls"] = list(reply.tool_calls)
    return json.dumps(line, ensure_ascii=True)


def _answers(path: Path) -> Iterator[tuple[str, RecordedAnswer]]:
    for number, raw in _lines(path):
        key, text, limit, calls = raw.get("key"), raw.get("answer"), raw.get("limit"), raw.get("calls")
        if not isinstance(key, str) or not isinstance(text, str):
            raise _damage_error(path, f"line {number:,} is not an answer")
        yield (
            key,
            RecordedAnswer(
                text=text,
                cut=bool(raw.get("cut")),
                limit=limit if isinstance(limit, int) else None,
                calls=tuple(one for one in calls if isinstance(one, dict)) if isinstance(calls, list) else (),
            ),
        )


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines file with their line numbers. A last line without a line end is incomplete, and is
    skipped: the process that wrote it was killed.
    """
    if not path.exists():
        return
    with _open(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
            if not line.endswith(b"\n"):
                if len(line) >= _LONGEST_LINE:
                    raise _damage_error(path, f"line {number:,} has more than {_LONGEST_LINE:,} bytes")
                return
            try:
                found = msgspec.json.decode(line)
            except (ValueError, RecursionError) as error:
                raise _damage_error(path, f"line {number:,} is not JSON") from error
            if not isinstance(found, dict):
                raise _damage_error(path, f"line {number:,} is not an object")
            yield number, found


def _read_object(path: Path) -> dict[str, Any]:
    with _open(path) as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise _damage_error(path, f"it has more than {_LARGEST:,} bytes")
    try:
        found = msgspec.json.decode(content)
    except (ValueError, RecursionError) as error:
        raise _damage_error(path, "it is not JSON") from error
    if not isinstance(found, dict):
        raise _damage_error(path, "it is not an object")
    return found


def _open(path: Path) -> IO[bytes]:
    try:
        if not path.is_file():  # opening a FIFO would wait for a writer
            raise FileNotFoundError
        return path.open("rb")
    except FileNotFoundError as error:
        raise DataError(
            f"{path.parent} is not a record of a model: {path.name} is missing.",
            remedy="Use the folder `old` that `tuneport move` wrote, or leave out `record`.",
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}.", remedy="Check the name and the permissions."
        ) from error


def _damage_error(path: Path, why: str) -> DataError:
    return DataError(f"{path} is damaged: {why}.", remedy="Run the same `tuneport move` again.")
