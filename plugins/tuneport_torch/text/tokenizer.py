"""A model's tokenizer, run in a child process with limits on time and memory."""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

from tuneport.errors import BackendError, UnavailableError
from tuneport_torch.bases.files import TOKENIZER_BYTES, read_bytes
from tuneport_torch.text.child_process import ChildEnded, ChildProcess

if TYPE_CHECKING:
    import subprocess

_SCRIPT = Path(__file__).with_name("sandbox") / "run_tokenizer.py"
_BATCH_TEXTS = 64
_BATCH_CHARACTERS = 2**19
_MOST_CONTROL_TOKENS = 20_000  # models with many have a thousand; each is searched for in every row
_OTHER = "Restore the model's own tokenizer.json, or choose another model."

_Facts = tuple[list[tuple[int, str, bool]], list[int | None], list[int]]
_Pieces = tuple[int, list[str | None], list[str]]
_T = TypeVar("_T")


class Spans(Sequence[tuple[int, int]]):
    """The characters [start, end) that each token of a text stands for. Tuples are made only when read."""

    __slots__ = ("_ends",)

    def __init__(self, raw: bytes) -> None:
        self._ends = array("I", raw)

    def __len__(self) -> int:
        return len(self._ends) // 2

    @overload
    def __getitem__(self, at: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, at: slice) -> list[tuple[int, int]]: ...
    def __getitem__(self, at: int | slice) -> tuple[int, int] | list[tuple[int, int]]:
        if isinstance(at, slice):
            return list(self)[at]
        at = range(len(self))[at]
        return self._ends[2 * at], self._ends[2 * at + 1]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._ends[::2], self._ends[1::2], strict=True)


class Tokenizer:
    """A tokenizer.json. Thread-safe; a forked process gets its own child.

    No tokenizer is trusted: one that takes too long, uses too much memory or makes too many tokens ends its child and
    is an UnavailableError; the next call starts another. `texts` are those whose ids are wanted.
    """

    def __init__(self, file: Path, texts: Sequence[str]) -> None:
        self.file = file
        self._texts = list(texts)
        self._sha256: bytes | None = None
        self.added: dict[int, tuple[str, bool]] = {}
        """By id, the text of each added token and whether it is a control token."""
        self.ids: dict[str, int | None] = {}
        """The ids of `texts`; None for one that is not a token."""
        self.start: list[int] = []
        """The first tokens that the tokenizer itself puts before plain text."""
        self._begin()
        with self._worker.turn(), self._child_errors():
            self._worker.ask(msgspec.msgpack.encode(["count", []]))

    def encode(self, texts: Sequence[str]) -> list[tuple[list[int], Spans]]:
        """The ids of each text, and the characters [start, end) that each id stands for."""
        packed = self._in_batches("encode", texts, list[tuple[bytes, bytes]])
        return [(array("I", ids).tolist(), Spans(spans)) for ids, spans in packed]

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has."""
        return self._in_batches("count", texts, list[int])

    def decode(self, ids: Sequence[int], *, keep_control: bool) -> str:
        """The text of ids, with or without control tokens."""
        text: str = self._request(str, "decode", list(ids), keep_control)
        return text

    def vocabulary(self) -> list[bytes]:
        """The bytes that each token stands for, by id."""
        tokens: list[bytes] = self._request(list[bytes], "vocabulary")
        return tokens

    def twin(self) -> Tokenizer:
        """The same tokenizer with its own child process."""
        twin = copy(self)
        twin._begin()  # noqa: SLF001 - its own
        return twin

    def steps(self) -> dict[str, Any]:
        """The parts of tokenizer.json that define how text is read, without vocabulary and merges."""
        found: dict[str, Any] = self._request(dict[str, Any], "steps")
        return found

    def pieces(self, rows: int) -> tuple[int, list[str | None], list[str]]:
        """The highest id, and for a BPE the tokens by id and the merges in order. Both are empty if the highest id is
        beyond `rows`.
        """
        found: _Pieces = self._request(_Pieces, "pieces", rows)
        return found

    def close(self) -> None:
        """End the child; the next call starts another."""
        self._worker.close()

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The child, while there is one."""
        return self._worker.process

    def _begin(self) -> None:
        self._worker = ChildProcess(_SCRIPT, self._opening, self._read_facts)

    def _request(self, kind: Any, verb: str, *given: Any) -> Any:
        """The child's answer to one request."""
        with self._worker.turn(), self._child_errors():
            return self._result(self._worker.ask(msgspec.msgpack.encode([verb, *given])), kind)

    def _in_batches(self, verb: str, texts: Sequence[str], kind: type[list[_T]]) -> list[_T]:
        """The results for all texts, in batches. While one batch is decoded here, the child works on the next."""
        found: list[_T] = []
        with self._worker.turn(), self._child_errors():
            working = False
            for batch in _batches(texts):
                message = msgspec.msgpack.encode([verb, batch])
                answer = self._worker.receive() if working else None
                self._worker.send(message)
                working = True
                if answer is not None:
                    found += self._result(answer, kind)
            if working:
                found += self._result(self._worker.receive(), kind)
        return found

    def _opening(self) -> list[bytes]:
        try:
            source = read_bytes(self.file, TOKENIZER_BYTES)
        except FileNotFoundError:
            raise UnavailableError(f"{self.file} does not exist anymore.", remedy="Restore the file.") from None
        sha256 = hashlib.sha256(source).digest()
        if self._sha256 not in (None, sha256):
            raise UnavailableError(f"{self.file} was changed while it was in use.", remedy="Load the model again.")
        self._sha256 = sha256
        return [msgspec.msgpack.encode(self._texts), source]

    def _read_facts(self, answer: bytes) -> None:
        try:
            added, ids, self.start = self._result(answer, _Facts)
        except UnavailableError as error:
            raise UnavailableError(f"{self.file} cannot be read: {error.message}", remedy=_OTHER) from None
        control = sum(is_control for _, _, is_control in added)
        if control > _MOST_CONTROL_TOKENS:
            raise UnavailableError(
                f"{self.file} has {control:,} control tokens; at most {_MOST_CONTROL_TOKENS:,} are read.", remedy=_OTHER
            )
        self.added = {number: (text, is_control) for number, text, is_control in added}
        self.ids = dict(zip(self._texts, ids, strict=True))

    def _result(self, answer: bytes, kind: Any) -> Any:
        """The child's result. Raises UnavailableError with the library's message."""
        succeeded, found = msgspec.msgpack.decode(answer, type=tuple[bool, msgspec.Raw])
        if succeeded:
            return msgspec.msgpack.decode(found, type=kind)
        raise UnavailableError(
            f"The tokenizer in {self.file} failed: {msgspec.msgpack.decode(found, type=str)}.", remedy=_OTHER
        )

    @contextmanager
    def _child_errors(self) -> Iterator[None]:
        """Turn ChildEnded into a TuneportError. After any error the next call starts another child."""
        try:
            yield
        except ChildEnded as ended:
            raise self._explain(ended) from None
        except BaseException:
            self._worker.close()
            raise

    def _explain(self, ended: ChildEnded) -> UnavailableError | BackendError:
        if ended.code is not None and ended.code > 0:
            return BackendError(
                "The process that runs tokenizers could not start or failed.",
                remedy=f"Try: {sys.executable} -c 'import tokenizers, msgspec'",
            )
        what = "its answer was too large" if ended.code is None else "it took too much processor time or memory"
        return UnavailableError(f"The tokenizer in {self.file} was stopped: {what}.", remedy=_OTHER)


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Batches of a few texts; a very long text is alone."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and (len(batch) == _BATCH_TEXTS or size + len(text) > _BATCH_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch
