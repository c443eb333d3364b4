"""The proof of where the assistant's turns stand in the text that a template writes.

Runs in the template's process; imports the standard library alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tuneport_torch.text.forms import MARK, Turns, marked_end, with_content

OPENS_OTHERWISE = "the template opens this turn differently from how it asks the model for it"
ENDS_OTHERWISE = "the template writes this turn differently once others follow it"


class Proof:
    """One conversation's text, and where its turns are proven to stand in it.

    `write(turns, prompt)` renders; `asked(turn)` is what the model is asked with before a turn; `trailer` says that the
    template writes something behind a whole conversation. `written` is the text as the template writes it, where the
    thinking of the last answer in `text` was put behind the prompt's. `stops` are tokens at which the model stops and
    which begin the next turn, for templates that write no end.
    """

    def __init__(
        self,
        write: Callable[[Turns, bool], str],
        asked: Callable[[int], str],
        turns: Turns,
        text: str,
        *,
        written: str,
        trailer: bool,
        stops: Sequence[str],
    ) -> None:
        self._write, self._asked, self._turns, self._trailer = write, asked, turns, trailer
        self._text, self._written, self._stops = text, written, stops

    def turn(self, turn: int) -> dict[str, Any] | str:
        """{start, said, ends} in characters of the text, or why it cannot be known.

        The text begins with what the model is asked with, which ends at `start`; what the row says ends at `said` or
        before; the turn's end is the last control token between `said` and the first of `ends` that has one. With
        `first` it is the first: the template opens the next answer without being asked to.
        """
        before = self._asked(turn)
        if not self._text.startswith(before):
            return OPENS_OTHERWISE
        start = len(before)
        if turn + 1 == len(self._turns):
            end = {"start": start, "said": start, "ends": [len(self._text)]}
            cut = self._before_trailer(start) if self._trailer else None
            if cut is None:
                return end
            first = self._write(self._turns, True) == self._written
            return {"start": start, "said": cut[0], "ends": [cut[1], len(self._text)], "first": first}
        through = self._write(self._turns[: turn + 1], False)
        if self._text.startswith(through) and len(through) >= start:
            stop = len(through) + len(stop_behind(self._text, len(through), self._stops))
            return {"start": start, "said": start, "ends": [len(through), stop]}
        cut = self._common_end(turn, start, through)
        if cut is None or not self._text.startswith(self._written[: cut[1]]):
            return ENDS_OTHERWISE
        first = self._trailer and self._write(self._turns[: turn + 1], True) == through
        return {"start": start, "said": cut[0], "ends": [cut[1]], "first": first}

    def _common_end(self, turn: int, start: int, through: str) -> tuple[int, int] | None:
        """(said, end): what stands behind the turn's words both here and where the turn is last; no later words."""
        before, later = self._turns[:turn], self._turns[turn + 1 :]
        here = _behind(self._turns, turn, self._written, self._write)
        last = _behind(self._turns[: turn + 1], turn, through, self._write)
        if here is None or last is None or here < start:
            return None
        end = here + common(self._written[here:], through[last:])
        other = self._write([*before, self._turns[turn], *(with_content(one, MARK) for one in later)], False)
        return (here, end) if other.startswith(self._written[:end]) else None

    def _before_trailer(self, start: int) -> tuple[int, int] | None:
        """(said, end) of the last turn, without what the template writes behind a whole conversation."""
        turn = len(self._turns) - 1
        content = self._turns[turn].get("content")
        longer = [*self._turns, with_content({"role": "user", "content": content}, "?")]
        try:
            followed = self._write(longer, False)
            there = _behind(longer, turn, followed, self._write)
        except Exception:  # noqa: BLE001 - a template that refuses another turn has the whole text as its end
            return None
        here = _behind(self._turns, turn, self._text, self._write)
        if here is None or there is None or here < start:
            return None
        return here, here + common(self._text[here:], followed[there:])


def has_trailer(write: Callable[[Turns, bool], str], turns: Turns) -> bool:
    """Whether the template writes something behind user and assistant that is not there when another turn follows."""
    text, longer = write(turns[:2], False), write(turns, False)
    here, there = _behind(turns[:2], 1, text, write), _behind(turns, 1, longer, write)
    return here is not None and there is not None and not longer[there:].startswith(text[here:])


def stop_behind(text: str, end: int, stops: Iterable[str]) -> str:
    """What stands behind `end` through the stop token that is the next thing there; else nothing."""
    rest = text[end:].lstrip()
    stop = next((one for one in stops if rest.startswith(one)), None)
    return text[end : len(text) - len(rest)] + stop if stop else ""


def _behind(turns: Turns, turn: int, text: str, write: Callable[[Turns, bool], str]) -> int | None:
    """Where the words of a turn end in `text`: behind a mark that changes nothing but stands there."""
    marked = [*turns[:turn], marked_end(turns[turn])]
    count = write(marked, False).count(MARK)
    whole = write([*marked, *turns[turn + 1 :]], False)
    if not count or whole.count(MARK) < count or whole.replace(MARK, "") != text:
        return None
    place = -1
    for _ in range(count):
        place = whole.index(MARK, place + 1)
    return place - (count - 1)


def common(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    size = min(len(one), len(other))
    return next((at for at in range(size) if one[at] != other[at]), size)
