"""Proves where the assistant's turns are in the text that a template writes.

Runs in the template's process, so it imports only the standard library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tuneport_torch.text.sandbox.message_forms import MARK, Turns, mark_end, replace_content

OPENS_DIFFERENTLY = "the template opens this turn differently from how it asks the model for it"
ENDS_DIFFERENTLY = "the template writes this turn differently once others follow it"


class Proof:
    """A conversation's text, and the proven places of its turns.

    `write(turns, prompt)` renders. `prompt_before(turn)` is the prompt before a turn. `trailer`: the template writes
    something after a complete conversation. `written` is the text as the template writes it, while `text` may have the
    thinking of the last answer after the prompt's. `stops` are tokens at which the model stops and which start the next
    turn, for templates that write no end.
    """

    def __init__(
        self,
        write: Callable[[Turns, bool], str],
        prompt_before: Callable[[int], str],
        turns: Turns,
        text: str,
        *,
        written: str,
        trailer: bool,
        stops: Sequence[str],
    ) -> None:
        self._write, self._prompt_before, self._turns, self._trailer = write, prompt_before, turns, trailer
        self._text, self._written, self._stops = text, written, stops

    def turn(self, turn: int) -> dict[str, Any] | str:
        """{start, words_end, ends} in characters of the text, or why they cannot be known.

        The text starts with the prompt, which ends at `start`. The row's own words end at `words_end` or before. The
        turn's end is the last control token between `words_end` and the first of `ends` that has one; with `first` it
        is the first control token, because the template opens the next answer without being prompt_before to.
        """
        before = self._prompt_before(turn)
        if not self._text.startswith(before):
            return OPENS_DIFFERENTLY
        start = len(before)
        if turn + 1 == len(self._turns):
            end = {"start": start, "words_end": start, "ends": [len(self._text)]}
            cut = self._before_trailer(start) if self._trailer else None
            if cut is None:
                return end
            first = self._write(self._turns, True) == self._written
            return {"start": start, "words_end": cut[0], "ends": [cut[1], len(self._text)], "first": first}
        through = self._write(self._turns[: turn + 1], False)
        if self._text.startswith(through) and len(through) >= start:
            stop = len(through) + len(stop_after(self._text, len(through), self._stops))
            return {"start": start, "words_end": start, "ends": [len(through), stop]}
        cut = self._common_end(turn, start, through)
        if cut is None or not self._text.startswith(self._written[: cut[1]]):
            return ENDS_DIFFERENTLY
        first = self._trailer and self._write(self._turns[: turn + 1], True) == through
        return {"start": start, "words_end": cut[0], "ends": [cut[1]], "first": first}

    def _common_end(self, turn: int, start: int, through: str) -> tuple[int, int] | None:
        """(words_end, end): what follows the turn's words both here and when the turn is last, without later words."""
        before, later = self._turns[:turn], self._turns[turn + 1 :]
        here = _end_of_words(self._turns, turn, self._written, self._write)
        last = _end_of_words(self._turns[: turn + 1], turn, through, self._write)
        if here is None or last is None or here < start:
            return None
        end = here + common_prefix(self._written[here:], through[last:])
        other = self._write([*before, self._turns[turn], *(replace_content(one, MARK) for one in later)], False)
        return (here, end) if other.startswith(self._written[:end]) else None

    def _before_trailer(self, start: int) -> tuple[int, int] | None:
        """(words_end, end) of the last turn, without what the template writes after a complete conversation."""
        turn = len(self._turns) - 1
        content = self._turns[turn].get("content")
        longer = [*self._turns, replace_content({"role": "user", "content": content}, "?")]
        try:
            followed = self._write(longer, False)
            there = _end_of_words(longer, turn, followed, self._write)
        except Exception:  # noqa: BLE001 - if the template refuses another turn, the turn ends with the text
            return None
        here = _end_of_words(self._turns, turn, self._text, self._write)
        if here is None or there is None or here < start:
            return None
        return here, here + common_prefix(self._text[here:], followed[there:])


def has_trailer(write: Callable[[Turns, bool], str], turns: Turns) -> bool:
    """Whether the template writes something after user and assistant that is missing when another turn follows."""
    text, longer = write(turns[:2], False), write(turns, False)
    here, there = _end_of_words(turns[:2], 1, text, write), _end_of_words(turns, 1, longer, write)
    return here is not None and there is not None and not longer[there:].startswith(text[here:])


def stop_after(text: str, end: int, stops: Iterable[str]) -> str:
    """The text after `end` through a stop token, if one comes next; otherwise empty."""
    rest = text[end:].lstrip()
    stop = next((one for one in stops if rest.startswith(one)), None)
    return text[end : len(text) - len(rest)] + stop if stop else ""


def _end_of_words(turns: Turns, turn: int, text: str, write: Callable[[Turns, bool], str]) -> int | None:
    """Where the words of a turn end in `text`: after a mark that changes nothing else."""
    marked = [*turns[:turn], mark_end(turns[turn])]
    count = write(marked, False).count(MARK)
    marked_text = write([*marked, *turns[turn + 1 :]], False)
    if not count or marked_text.count(MARK) < count or marked_text.replace(MARK, "") != text:
        return None
    place = -1
    for _ in range(count):
        place = marked_text.index(MARK, place + 1)
    return place - (count - 1)


def common_prefix(one: str, other: str) -> int:
    """The length of the common prefix of two texts."""
    size = min(len(one), len(other))
    return next((at for at in range(size) if one[at] != other[at]), size)
