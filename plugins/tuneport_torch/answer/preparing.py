"""Rows that other threads prepare, because templates, tokenizers and schemas may take seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from tuneport.errors import TuneportError
from tuneport.plugin import GenerateOptions, Message
from tuneport_torch.text.render import Renderer

if TYPE_CHECKING:
    from tuneport_torch.answer.row import Row

_LONG = 2**15  # characters: to tokenize so many takes a small part of a second

Prepare = Callable[[Sequence[Message], GenerateOptions, Renderer], "Row"]


class Preparing:
    """A thread prepares the rows with long texts, another those with a schema or tools, another the rest.

    Long texts have a tokenizer's and a template's process of their own: in the ones that the answers under way need for
    their text, they would have to wait for each other.
    """

    def __init__(self, prepare: Prepare, renderer: Renderer) -> None:
        self._prepare, self._renderer = prepare, renderer
        self._long, self._bound, self._free = (ThreadPoolExecutor(1, thread_name_prefix="prepare") for _ in range(3))
        self._aside = Renderer(renderer.codec.twin(), renderer.mode)
        self._lock = threading.Lock()
        self._at: int | None = None  # the row with a long text that is prepared now
        self.futures: dict[int, Future[Row]] = {}

    def add(self, number: int, prompt: Sequence[Message], options: GenerateOptions) -> None:
        """Prepare a row."""
        if len(repr((prompt, options.tools))) > _LONG:
            with self._lock:
                self.futures[number] = self._long.submit(self._prepare_long, number, prompt, options)
            return
        lane = self._bound if options.schema is not None or options.tools else self._free
        self.futures[number] = lane.submit(self._prepare, prompt, options, self._renderer)

    def drop(self, number: int) -> None:
        """Nobody waits for that row any more: end the work on it."""
        future = self.futures.pop(number, None)
        if future is None or future.cancel():
            return
        with self._lock:
            if self._at == number:
                self._aside.codec.close()

    def wait(self, seconds: float) -> None:
        """Wait so long for the next row."""
        wait(self.futures.values(), seconds, return_when=FIRST_COMPLETED)

    def ready(self) -> Iterator[tuple[int, Row | TuneportError]]:
        """Take out the rows that are prepared, and the errors of what cannot be answered."""
        for number in [number for number, future in self.futures.items() if future.done()]:
            try:
                yield number, self.futures.pop(number).result()
            except TuneportError as error:
                yield number, error

    def close(self) -> None:
        """Forget all of them, and wait for none."""
        for number in list(self.futures):
            self.drop(number)
        for lane in (self._long, self._bound, self._free):
            lane.shutdown(wait=False, cancel_futures=True)
        self._aside.codec.close()

    def _prepare_long(self, number: int, prompt: Sequence[Message], options: GenerateOptions) -> Row:
        with self._lock:
            if number not in self.futures:
                raise CancelledError
            self._at = number
        try:
            return self._prepare(prompt, options, self._aside)
        finally:
            with self._lock:
                self._at = None
