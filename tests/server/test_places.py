"""Loaded models stay within their number and their bytes, and the one that was not asked for longest makes room."""

from __future__ import annotations

import threading

import pytest

from tuneport import Ref
from tuneport_server.answering.memory import Places
from tuneport_server.wire import WireError

A, B, C = (Ref("toy", name) for name in "abc")


class Loaded:
    """Models that give their places back when they are asked to, unless they are busy."""

    def __init__(self, places: Places) -> None:
        self.places, self.busy = places, set[Ref]()
        self.asked: list[Ref] = []

    def take(self, ref: Ref, memory: int | None) -> None:
        self.places.take(ref, memory, lambda: self._make_room(ref))

    def _make_room(self, ref: Ref) -> bool:
        self.asked.append(ref)
        if ref in self.busy:
            return False
        threading.Thread(target=self.places.leave, args=(ref,)).start()
        return True


def test_the_model_that_was_not_asked_for_longest_makes_room() -> None:
    loaded = Loaded(Places(most=8, memory=100))
    loaded.take(A, 40)
    loaded.take(B, 40)
    loaded.places.use(A)
    assert loaded.asked == []
    loaded.take(C, 60)
    assert loaded.asked == [B]


def test_as_many_make_room_as_must_and_a_busy_one_is_passed_over() -> None:
    loaded = Loaded(Places(most=8, memory=100))
    for ref in (A, B, C):
        loaded.take(ref, 30)
    loaded.busy.add(A)
    loaded.take(Ref("toy", "d"), 70)
    assert {B, C} <= set(loaded.asked)


def test_models_of_unknown_size_are_bounded_by_their_number() -> None:
    loaded = Loaded(Places(most=2, memory=100))
    loaded.take(A, None)
    loaded.take(B, None)
    loaded.take(C, None)
    assert loaded.asked == [A]


def test_what_a_model_weighs_once_it_is_loaded_counts() -> None:
    loaded = Loaded(Places(most=8, memory=100))
    loaded.take(A, None)
    loaded.places.weigh(A, 70)
    loaded.take(B, None)
    loaded.places.weigh(B, 50)
    assert loaded.asked == [A], "the one that was loaded before"


def test_a_model_larger_than_all_places_is_refused_with_both_sizes() -> None:
    loaded = Loaded(Places(most=8, memory=1000))
    with pytest.raises(WireError, match=r"takes 1,001 bytes, and this server keeps 1,000 .*--limit model_bytes"):
        loaded.take(A, 1001)


def test_nobody_waits_for_a_place_once_the_server_ends() -> None:
    loaded = Loaded(Places(most=1, memory=100))
    loaded.take(A, 1)
    loaded.busy.add(A)
    waiting = threading.Thread(target=loaded.take, args=(B, 1))
    waiting.start()
    loaded.places.close()
    waiting.join(30)
    assert not waiting.is_alive()
