"""Which models are loaded, so that their number and their bytes stay within bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tuneport.plugin import Ref
from tuneport_server.wire import WireError

_LOOK_SECONDS = 1.0  # between two looks for somebody who can make room


@dataclass(slots=True)
class _Place:
    memory: int
    used: float
    make_room: Callable[[], bool]


class Places:
    """The places of loaded models: at most `most` of them, and `memory` bytes together. A model whose size nobody knows
    takes a place and no bytes. Who waits for a place is given that of the model that was not asked for longest.
    """

    def __init__(self, most: int, memory: int) -> None:
        self._most, self._memory = most, memory
        self._changed = threading.Condition()
        self._taken: dict[Ref, _Place] = {}
        self._waiting = 0
        self._closed = False

    def take(self, ref: Ref, memory: int | None, make_room: Callable[[], bool]) -> None:
        """Wait until the model may be loaded. `make_room` is asked to give the place back in its turn, and says whether
        it will. Raises WireError for a model that is larger than all places together.
        """
        need = memory or 0
        if need > self._memory:
            raise WireError(
                400,
                f"The model takes {need:,} bytes, and this server keeps {self._memory:,} for models. "
                "Who runs it can allow more: tuneport serve --limit model_bytes=N",
                param="model",
                code="model_too_large",
            )
        with self._changed:
            self._waiting += 1
            try:
                while not self._closed and (len(self._taken) >= self._most or self._held() + need > self._memory):
                    self._ask_for_room()
                    self._changed.wait(_LOOK_SECONDS)
                self._taken[ref] = _Place(need, time.monotonic(), make_room)
            finally:
                self._waiting -= 1

    def weigh(self, ref: Ref, memory: int | None) -> None:
        """The model is loaded, and takes that much. What was not known before may be too much together: then others
        make room as they can.
        """
        with self._changed:
            self._taken[ref].memory = memory or 0
            if self._held() > self._memory:
                self._ask_for_room(ref)

    def use(self, ref: Ref) -> None:
        """The model is asked now."""
        with self._changed:
            self._taken[ref].used = time.monotonic()

    def leave(self, ref: Ref) -> None:
        """The model was given back."""
        with self._changed:
            self._taken.pop(ref, None)
            self._changed.notify_all()

    def wanted(self) -> bool:
        """Whether somebody waits for a place."""
        return self._waiting > 0

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _held(self) -> int:
        return sum(place.memory for place in self._taken.values())

    def _ask_for_room(self, but: Ref | None = None) -> None:
        for ref in sorted(self._taken, key=lambda one: self._taken[one].used):
            if ref != but and self._taken[ref].make_room():
                return
