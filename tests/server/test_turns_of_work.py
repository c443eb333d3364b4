"""Files to check and jobs to start: whoever brings a hundred of them, the next one's turn comes soon."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from tuneport_server.turns import Turns


class Pieces(Turns):
    """Pieces of work in a list, each done when the test lets it."""

    def __init__(self, threads: int) -> None:
        super().__init__("piece", threads, 60.0)
        self.left: list[dict[str, Any]] = []
        self.done: list[str] = []
        self.running: set[str] = set()
        self.changed = threading.Condition()
        self.allowed = 0

    def bring(self, owner: str, count: int) -> None:
        with self.changed:
            first = len(self.left) + len(self.done)
            self.left += [{"id": f"{owner}{n}", "owner": owner, "n": first + n} for n in range(count)]
        self.wake()

    def until(self, fact) -> None:
        with self.changed:
            assert self.changed.wait_for(fact, 60), (self.done, self.running)

    def let(self, count: int) -> None:
        with self.changed:
            self.allowed += count
            self.changed.notify_all()

    def stop(self) -> None:
        with self.changed:
            self.left.clear()
        self.let(1000)
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
            self.changed.wait_for(lambda: self.allowed, 60)
            self.allowed -= 1
            self.running.discard(row["id"])
            self.done.append(row["id"])
            self.left = [one for one in self.left if one["id"] != row["id"]]
            self.changed.notify_all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_token_with_a_hundred_pieces_leaves_the_next_turn_to_the_other(threads: int) -> None:
    pieces = Pieces(threads)
    pieces.bring("a", 100)
    pieces.start()
    share = max(1, threads - 1)
    pieces.until(lambda: len(pieces.running) == share)
    pieces.bring("b", 2)
    if threads > 1:  # there is a process left, whatever the first token has
        pieces.until(lambda: "b0" in pieces.running)
        assert len(pieces.running) == threads
        assert not pieces.done
    for _ in range(share + 4):
        pieces.let(1)
        before = len(pieces.done)
        pieces.until(lambda before=before: len(pieces.done) > before)
        pieces.until(lambda: len(pieces.running) >= share)
    assert {"b0", "b1"} <= set(pieces.done) | pieces.running
    pieces.stop()


def test_tokens_that_hold_all_processes_give_way_to_one_that_comes_later() -> None:
    pieces = Pieces(2)
    pieces.bring("a", 50)
    pieces.bring("b", 50)
    pieces.start()
    pieces.until(lambda: pieces.running == {"a0", "b0"})
    pieces.bring("c", 1)
    pieces.let(1)
    pieces.until(lambda: "c0" in pieces.running)
    assert len(pieces.done) == 1
    pieces.stop()
