"""Which models are loaded, so that their number and their bytes stay within limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tuneport.plugin import Ref
from tuneport_server.wire import WireError

_LOOK_SECONDS = 1.0  # between two attempts to make room


@dataclass(slots=True)
class _Loaded:
    memory: int
    used: float
    make_room: Callable[[], bool]


class ModelMemory:
    """Room for at most `most` models and for `memory` bytes of weights. A model of unknown size counts as one model and
    no bytes. When there is no room, the least recently used model makes room.
    """

    def __init__(self, most: int, memory: int) -> None:
        self._most, self._memory = most, memory
        self._changed = threading.Condition()
        self._loaded: dict[Ref, _Loaded] = {}
        self._waiting = 0
        self._closed = False

    def reserve(self, ref: Ref, memory: int | None, make_room: Callable[[], bool]) -> None:
        """Wait until the model may be loaded. `make_room` is called later to ask for its room, and returns whether it
        will be released. Raises WireError for a model that is larger than the limit.
        """
        need = memory or 0
        if need > self._memory:
            raise WireError(
                400,
                f"The model takes {need:,} bytes, and this server's limit for models is {self._memory:,}. "
                "To raise it, restart the server with: tuneport serve --limit model_bytes=N",
                param="model",
                code="model_too_large",
            )
        with self._changed:
            self._waiting += 1
            try:
                while not self._closed and (
                    len(self._loaded) >= self._most or self._bytes_used() + need > self._memory
                ):
                    self._make_room()
                    self._changed.wait(_LOOK_SECONDS)
                self._loaded[ref] = _Loaded(need, time.monotonic(), make_room)
            finally:
                self._waiting -= 1

    def resize(self, ref: Ref, memory: int | None) -> None:
        """Set the memory of a model once it is loaded. If all models together exceed the limit now, others make room
        when they can.
        """
        with self._changed:
            self._loaded[ref].memory = memory or 0
            if self._bytes_used() > self._memory:
                self._make_room(ref)

    def touch(self, ref: Ref) -> None:
        """Record that the model is used now."""
        with self._changed:
            self._loaded[ref].used = time.monotonic()

    def release(self, ref: Ref) -> None:
        """Release the room of a model that is unloaded."""
        with self._changed:
            self._loaded.pop(ref, None)
            self._changed.notify_all()

    def is_wanted(self) -> bool:
        """Does another model wait for room?"""
        return self._waiting > 0

    def close(self) -> None:
        """End all waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _bytes_used(self) -> int:
        return sum(one.memory for one in self._loaded.values())

    def _make_room(self, but: Ref | None = None) -> None:
        for ref in sorted(self._loaded, key=lambda one: self._loaded[one].used):
            if ref != but and self._loaded[ref].make_room():
                return
