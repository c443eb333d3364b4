"""Prepares rows in other threads, because templates, tokenizers and schemas may take seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from tuneport.errors import TuneportError
from tuneport.plugin import GenerateOptions, Message
from tuneport_torch.text.render import Renderer

if TYPE_CHECKING:
    from tuneport_torch.answer.row import AnswerRow

_LONG = 2**15  # characters, which take a small fraction of a second to tokenize

Prepare = Callable[[Sequence[Message], GenerateOptions, Renderer], "AnswerRow"]


class RowPreparer:
    """Prepares rows in three threads: one for long texts, one for rows with a schema or tools, and one for the rest.

    Long texts have their own tokenizer and template processes. In the shared ones, running answers would have to wait
    for them.
    """

    def __init__(self, prepare: Prepare, renderer: Renderer) -> None:
        self._prepare, self._renderer = prepare, renderer
        self._long, self._bound, self._free = (ThreadPoolExecutor(1, thread_name_prefix="prepare") for _ in range(3))
        self._long_renderer = Renderer(renderer.codec.twin(), renderer.mode)
        self._lock = threading.Lock()
        self._current: int | None = None  # the row with a long text that is being prepared
        self.futures: dict[int, Future[AnswerRow]] = {}

    def add(self, number: int, prompt: Sequence[Message], options: GenerateOptions) -> None:
        """Prepare a row."""
        if len(repr((prompt, options.tools))) > _LONG:
            with self._lock:
                self.futures[number] = self._long.submit(self._prepare_long, number, prompt, options)
            return
        lane = self._bound if options.schema is not None or options.tools else self._free
        self.futures[number] = lane.submit(self._prepare, prompt, options, self._renderer)

    def drop(self, number: int) -> None:
        """Stop the work on a row that is not needed anymore."""
        future = self.futures.pop(number, None)
        if future is None or future.cancel():
            return
        with self._lock:
            if self._current == number:
                self._long_renderer.codec.close()

    def wait(self, seconds: float) -> None:
        """Wait at most `seconds` for the next row."""
        wait(self.futures.values(), seconds, return_when=FIRST_COMPLETED)

    def take_ready(self) -> Iterator[tuple[int, AnswerRow | TuneportError]]:
        """Remove and return the prepared rows, and the errors of those that cannot be answered."""
        for number in [number for number, future in self.futures.items() if future.done()]:
            try:
                yield number, self.futures.pop(number).result()
            except TuneportError as error:
                yield number, error

    def close(self) -> None:
        """Drop all rows without waiting."""
        for number in list(self.futures):
            self.drop(number)
        for lane in (self._long, self._bound, self._free):
            lane.shutdown(wait=False, cancel_futures=True)
        self._long_renderer.codec.close()

    def _prepare_long(self, number: int, prompt: Sequence[Message], options: GenerateOptions) -> AnswerRow:
        with self._lock:
            if number not in self.futures:
                raise CancelledError
            self._current = number
        try:
            return self._prepare(prompt, options, self._long_renderer)
        finally:
            with self._lock:
                self._current = None
