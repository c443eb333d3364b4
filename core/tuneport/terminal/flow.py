"""Wraps text that arrives in pieces, between words, at the width of a terminal."""

from __future__ import annotations

_TAB = 8


class Flow:
    """Holds back a word until it is complete, so that it fits on one line of `width` cells.

    A line may also break between two wide characters, such as Chinese ones. A word that is wider than a line is passed
    on as it arrives, and the terminal breaks it.
    """

    def __init__(self, width: int) -> None:
        self._width = max(width, 1)
        self._used = 0  # cells of the line so far
        self._gap = ""  # blanks after the text so far; they are dropped where the line breaks
        self._word = ""
        self._is_long = False  # whether the start of this word was passed on because it fills a line

    def feed(self, text: str) -> str:
        """The text that can be shown now."""
        return "".join(self._add(one) for one in text)

    def end(self) -> str:
        """The text that was held back."""
        shown = self._place_word()
        gap, self._gap = self._gap, ""
        return shown + gap

    def _add(self, character: str) -> str:
        from rich.cells import get_character_cell_size

        if character == "\n":
            shown = self._place_word()
            self._gap, self._used = "", 0
            return shown + character
        if character in " \t":
            shown = self._place_word()
            self._gap += character
            return shown
        shown = self._place_word() if get_character_cell_size(character) > 1 else ""
        self._word += character
        if shown or self._is_long or get_character_cell_size(character) > 1 or self._cells(self._word) >= self._width:
            is_long = self._is_long or self._cells(self._word) >= self._width
            shown += self._place_word()
            self._is_long = is_long
        return shown

    def _place_word(self) -> str:
        """The word, after the gap or on a new line."""
        word, self._word = self._word, ""
        continues, self._is_long = self._is_long, False
        if not word:
            return ""
        size, gap = self._cells(word), self._gap
        self._gap = ""
        if continues:
            self._used = (self._used + size) % self._width
            return word
        start = self._column_after(gap)
        if self._used and start + size > self._width:
            self._used = size % self._width if size > self._width else size
            return f"\n{word}"
        self._used = start + size if start + size <= self._width else (start + size) % self._width
        return gap + word

    def _column_after(self, gap: str) -> int:
        used = self._used
        for blank in gap:
            used = used + 1 if blank == " " else (used // _TAB + 1) * _TAB
        return used

    @staticmethod
    def _cells(text: str) -> int:
        from rich.cells import cell_len

        return cell_len(text)
