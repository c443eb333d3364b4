"""Loaded models stay within limits on number and bytes, and the least recently used one makes room."""

from __future__ import annotations

import threading

import pytest

from tuneport import Ref
from tuneport_server.answering.memory import ModelMemory
from tuneport_server.wire import WireError

A, B, C = (Ref("toy", name) for name in "abc")


class Loaded:
    """Models that make room when they are asked to, unless they are busy."""

    def __init__(self, memory: ModelMemory) -> None:
        self.memory, self.busy = memory, set[Ref]()
        self.asked: list[Ref] = []

    def load(self, ref: Ref, memory: int | None) -> None:
        self.memory.reserve(ref, memory, lambda: self._make_room(ref))

    def _make_room(self, ref: Ref) -> bool:
        self.asked.append(ref)
        if ref in self.busy:
            return False
        threading.Thread(target=self.memory.release, args=(ref,)).start()
        return True


def test_the_least_recently_used_model_makes_room() -> None:
    loaded = Loaded(ModelMemory(most=8, memory=100))
    loaded.load(A, 40)
    loaded.load(B, 40)
    loaded.memory.touch(A)
    assert loaded.asked == []
    loaded.load(C, 60)
    assert loaded.asked == [B]


def test_as_many_models_as_necessary_make_room_and_busy_ones_are_skipped() -> None:
    loaded = Loaded(ModelMemory(most=8, memory=100))
    for ref in (A, B, C):
        loaded.load(ref, 30)
    loaded.busy.add(A)
    loaded.load(Ref("toy", "d"), 70)
    assert {B, C} <= set(loaded.asked)


def test_models_of_unknown_size_are_limited_by_their_number() -> None:
    loaded = Loaded(ModelMemory(most=2, memory=100))
    loaded.load(A, None)
    loaded.load(B, None)
    loaded.load(C, None)
    assert loaded.asked == [A]


def test_the_size_of_a_loaded_model_counts() -> None:
    loaded = Loaded(ModelMemory(most=8, memory=100))
    loaded.load(A, None)
    loaded.memory.resize(A, 70)
    loaded.load(B, None)
    loaded.memory.resize(B, 50)
    assert loaded.asked == [A], "the one that was loaded before"


def test_a_model_larger_than_the_limit_is_refused_with_both_sizes() -> None:
    loaded = Loaded(ModelMemory(most=8, memory=1000))
    with pytest.raises(WireError, match=r"takes 1,001 bytes, and .* limit for models is 1,000.*--limit model_bytes"):
        loaded.load(A, 1001)


def test_no_model_waits_for_room_when_the_server_shuts_down() -> None:
    loaded = Loaded(ModelMemory(most=1, memory=100))
    loaded.load(A, 1)
    loaded.busy.add(A)
    waiting = threading.Thread(target=loaded.load, args=(B, 1))
    waiting.start()
    loaded.memory.close()
    waiting.join(30)
    assert not waiting.is_alive()
