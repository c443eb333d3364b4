"""Files to check and jobs to start: one token with a hundred of them does not delay another."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from tuneport_server.background.scheduling import FairQueue


class Pieces(FairQueue):
    """Pieces of work in a list, each done when the test allows it."""

    def __init__(self, threads: int) -> None:
        super().__init__("piece", threads, 60.0)
        self.left: list[dict[str, Any]] = []
        self.done: list[str] = []
        self.running: set[str] = set()
        self.changed = threading.Condition()
        self.allowed: set[str] = set()

    def bring(self, owner: str, count: int) -> None:
        with self.changed:
            first = len(self.left) + len(self.done)
            self.left += [{"id": f"{owner}{n}", "owner": owner, "n": first + n} for n in range(count)]
        self.wake()

    def until(self, fact) -> None:
        with self.changed:
            assert self.changed.wait_for(fact, 60), (self.done, self.running)

    def let(self, *ids: str) -> None:
        with self.changed:
            self.allowed.update(ids)
            self.changed.notify_all()

    def stop(self) -> None:
        with self.changed:
            self.left.clear()
            self.let(*self.running)
        self._end(60.0)

    def _waiting(self, passed: Sequence[str]) -> list[Any]:
        with self.changed:
            oldest: dict[str, Any] = {}
            for row in self.left:
                if row["id"] not in passed:
                    oldest.setdefault(row["owner"], row)
            return list(oldest.values())

    def _do(self, row: Any) -> None:
        with self.changed:
            self.running.add(row["id"])
            self.changed.notify_all()
            self.changed.wait_for(lambda: row["id"] in self.allowed, 60)
            self.running.discard(row["id"])
            self.done.append(row["id"])
            self.left = [one for one in self.left if one["id"] != row["id"]]
            self.changed.notify_all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_token_with_a_hundred_pieces_leaves_the_next_turn_to_the_other(threads: int) -> None:
    pieces, share = Pieces(threads), max(1, threads - 1)
    pieces.bring("a", 100)
    pieces.start()
    pieces.until(lambda: len(pieces.running) == share)
    pieces.bring("b", 2)
    if threads == 1:
        pieces.let("a0")
        pieces.until(lambda: pieces.running == {"b0"})
        pieces.let("b0")
        pieces.until(lambda: pieces.running == {"a1"})
        pieces.let("a1")
    else:  # there is one left, whatever the first token has
        pieces.until(lambda: "b0" in pieces.running)
        assert len(pieces.running) == threads
        pieces.let("b0")
    pieces.until(lambda: "b1" in pieces.running)
    assert pieces.done in (["a0", "b0", "a1"], ["b0"])
    pieces.stop()


def test_tokens_that_hold_all_processes_yield_to_a_later_one() -> None:
    pieces = Pieces(2)
    pieces.bring("a", 50)
    pieces.bring("b", 50)
    pieces.start()
    pieces.until(lambda: pieces.running == {"a0", "b0"})
    pieces.bring("c", 1)
    pieces.let("b0")
    pieces.until(lambda: pieces.done == ["b0"] and len(pieces.running) == 2)
    assert pieces.running == {"a0", "c0"}
    pieces.stop()
